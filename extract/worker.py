"""One decoder process: what it does, and what its parent knows of it.

It may crash, hang or bloat. It is in a process group of its own, so that Ctrl-C in a terminal
does not reach it; when its parent is gone it ends by itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import spawn
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

from c4c.clock import RunningClock
from c4c.extract.decode import Request, decode_clip, failure
from c4c.extract.handover import Begun, Done, Given, Memory, Sender, Waits
from c4c.records import Clip

_RECYCLE = 500  # clips a process decodes before a fresh one takes over (leaks in codecs)
_BLOATED = 1 << 30  # or bytes of memory that it keeps
_MEMORY = 8 << 30  # bytes of address space a process may use
_DEADLINE = 60.0  # seconds, for a file of no size
_SECONDS_PER_MB = 2.0
_START = 120.0  # seconds a process may take to start, before its clip's time begins
_LOOK = 1.0  # seconds between a process's looks at whether its parent is there


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a clip.

    Attributes:
        status: as in ``Decoded``.
        message: as in ``Decoded``.
        times: float32 [n] of the first n frames given; the others are void.
    """

    status: str
    message: str
    times: npt.NDArray[np.float32]


def without_frames(status: str, message: str) -> Ended:
    """The end of a clip that gave nothing."""
    done = failure(status, message)
    return Ended(done.status, done.message, done.frames.times)


def serve(link: int, memory: int) -> None:
    """What a decoder process does: a clip in, frames out, until the link closes.

    Args:
        link: file handle of the connection to the parent, which sends a ``Request`` first.
        memory: file handle of the shared memory.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    threading.Thread(target=_leave_after, args=(os.getppid(),), daemon=True).start()
    os.nice(10)  # the backbone's threads wait for one another: it comes first on shared cores
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    connection: Connection = Connection(link)
    sender = Sender(connection, Memory(memory))
    with contextlib.suppress(EOFError, OSError):
        request = connection.recv()
        connection.send(time.monotonic())  # started: from here on a clip's time counts
        while True:
            clip = sender.clip()
            sender.finish(decode_clip(clip, request, sender))


def _leave_after(parent: int) -> None:
    """End this process when its parent has, even while a codec hangs in it.

    The kernel's own signal for this is sent when the thread that started the process ends, be
    there others that still want it.
    """
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def _start(link: Connection, memory: Memory) -> subprocess.Popen[bytes]:
    """A decoder process; unlike multiprocessing's it does not import the caller's script."""
    handles = (link.fileno(), memory.handle)
    code = f"from c4c.extract.worker import serve; serve{handles}"
    return subprocess.Popen(
        [spawn.get_executable(), "-P", "-c", code],
        pass_fds=handles,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        process_group=0,
    )


class Worker:
    """A decoder process and the clips that it has in hand, in ascending order.

    Args:
        request: how to sample them.
        deadline: seconds a clip may take; ``None`` goes by the size of its file.
        clock: by which they are counted.
        clips: what to decode, each with its place.
    """

    def __init__(
        self,
        request: Request,
        deadline: float | None,
        clock: RunningClock,
        clips: Iterable[tuple[int, Clip]] = (),
    ) -> None:
        self._deadline, self._clock = deadline, clock
        with contextlib.ExitStack() as undo:
            self.memory = Memory()
            undo.callback(self.memory.close)
            self.link, theirs = multiprocessing.Pipe()
            undo.callback(self.link.close)
            with theirs:
                self._process = _start(theirs, self.memory)
            undo.pop_all()
        self.clips: deque[tuple[int, Clip]] = deque()
        self._until = clock.now() + _START  # when the clip in hand is late
        self._waits: float | None = None  # since when it has waited for a slot
        self.started = False
        self._given = 0  # slots that came
        self._returned = 0  # slots given back
        self._served = 0
        self._resident = 0  # bytes of memory that it keeps
        self._send(request)
        for place, clip in clips:
            self.give(place, clip)

    def give(self, place: int, clip: Clip) -> None:
        """Hand over a clip to decode after those it has."""
        self.clips.append((place, clip))
        if self.started and len(self.clips) == 1:
            self._begin(time.monotonic())
        self._send(clip)

    def _begin(self, moment: float) -> None:
        """The time of the clip in hand begins."""
        if self.clips:
            self._until = self._clock.at(moment) + (self._deadline or _DEADLINE)

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it died meanwhile: its link says so
            self.link.send(message)

    def give_back(self, slot: int) -> None:
        """What a slot held is taken; time that was waited for it does not count."""
        self._returned += 1
        if self._waits is not None:
            self._until += self._clock.now() - self._waits
            self._waits = None
        self._send(slot)

    def hear(self) -> Iterator[tuple[int, Given | Ended]]:
        """Take what the process has said.

        Yields:
            A clip's place, and what has come of it.

        Raises:
            EOFError, OSError: it is dead.
        """
        while self.link.poll():
            message = self.link.recv()
            match message:
                case Begun():
                    if self._deadline is None:
                        self._until += _SECONDS_PER_MB * message.size / 1e6
                case Given():
                    self._given += 1
                    yield self.clips[0][0], message
                case Waits():
                    self._wait(message)
                case Done():
                    place, _ = self.clips.popleft()
                    self._served += 1
                    self._begin(message.at)
                    yield place, self._ended(message)
                case float():
                    self.started = True
                    self._begin(message)

    def _wait(self, message: Waits) -> None:
        """It stands still for want of a slot: that is not its fault while any is here."""
        since = self._clock.at(message.at)
        if message.returned < self._returned:  # one is on its way or has come since
            self._until += self._clock.now() - since
        elif self._waits is None and self._given > self._returned:
            self._waits = since

    def _ended(self, done: Done) -> Ended:
        self._resident = done.resident
        times = np.array(self.memory.times(max(done.slot, 0), done.kept))
        if done.kept:
            self._given += 1
            self.give_back(done.slot)
        return Ended(done.status, done.message, times)

    @property
    def worn(self) -> bool:
        """Whether a fresh process should take over."""
        return self._served >= _RECYCLE or self._resident > _BLOATED

    @property
    def late(self) -> bool:
        """Whether it has had its time, and not for want of a slot."""
        busy = bool(self.clips) and self._waits is None
        return busy and self._clock.now() > self._until and not self.link.poll()

    def end(self) -> int | None:
        """Wait for a process that has ended, not for long should the kernel hold it: its code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return self._process.returncode

    def stop(self) -> None:
        """Kill the process; what it gave can still be taken."""
        self._process.kill()
        self.end()
        self.link.close()
        self.memory.close()
