"""One decoder process: what it does, and what its parent knows of it.

It may crash, hang or bloat, and a video may take it over: it gives up all that decoding does
not need (``sandbox.py``), and what it says is not believed (``link.py``). It is in a process
group of its own, so that Ctrl-C in a terminal does not reach it; when its parent is gone it ends
by itself.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import spawn

import numpy as np
import numpy.typing as npt

from c4c.core.clock import RunningClock
from c4c.core.limits import MOST_FRAMES
from c4c.core.records import Clip
from c4c.extract.video.decode import failure
from c4c.extract.video.handover import Memory
from c4c.extract.video.link import (
    REVIEWS,
    Begun,
    Done,
    Given,
    Link,
    Nonsense,
    Said,
    Started,
    Waits,
    understood,
)
from c4c.extract.video.request import Request
from c4c.extract.video.rules import Extracted

_RECYCLE = 500  # clips a process decodes before a fresh one takes over (leaks in codecs)
_BLOATED = 1 << 30  # or bytes of memory that it keeps
_OLD = 24 * 3600.0  # or seconds that it has lived
_MEMORY = 8 << 30  # bytes of address space a process may use
_COMPUTES = 7 * 24 * 3600  # seconds: its end if it outlives those who would end it
_DEADLINE = 60.0  # seconds, for a file of no size
_SECONDS_PER_MB = 2.0
_START = 120.0  # seconds a process may take to start, before its clip's time begins
_PASSES = 3  # times that a clip is decoded, at most: quickly, whole, and without what is damaged


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


def _start(link: Link, memory: Memory) -> subprocess.Popen[bytes]:
    """A decoder process; unlike multiprocessing's it does not import the caller's script."""
    handles = (link.fileno(), memory.handle)
    code = f"from c4c.extract.video.sandbox import confine; confine({_MEMORY}, {_COMPUTES})\n"
    code += f"from c4c.extract.video.worker_process import serve; serve{handles}"
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
            self.link, theirs = Link.pair()
            undo.callback(self.link.close)
            with contextlib.closing(theirs):
                self._process = _start(theirs, self.memory)
            undo.pop_all()
        self.clips: deque[tuple[int, Clip]] = deque()
        self._born = self._began = time.monotonic()  # it, and the time of the clip in hand
        self._until = clock.now() + _START  # when the clip in hand is late
        self._waits: float | None = None  # since when it has waited for a slot
        self.started = False
        self._sent = 0  # messages
        self._waited = 0  # times that it said so
        self._held: set[int] = set()  # slots that came and were not given back
        self._returned = 0  # slots given back
        self._frames = 0  # that came of the clip in hand, or are not void
        self._pictures = 0  # that came of it, void or not
        self._named = False  # whether the size of its file came
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
        self._began, self._named = moment, False
        if self.clips:
            self._until = self._clock.at(moment) + (self._deadline or _DEADLINE)

    def _send(self, message: object) -> None:
        self._sent += 1
        with contextlib.suppress(OSError):  # it died meanwhile: its link says so
            self.link.send(pickle.dumps(message))

    def give_back(self, slot: int) -> None:
        """What a slot held is taken; time that was waited for it does not count."""
        self._held.discard(slot)
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
            Nonsense: it is not to be listened to.
        """
        while self.link.poll():
            message = understood(self.link.recv())
            if not self._may_say(message):
                raise Nonsense(message)
            match message:
                case Begun():
                    self._named = True
                    if self._deadline is None:
                        self._until += _SECONDS_PER_MB * message.size / 1e6
                case Given():
                    self._take(message)
                    yield self.clips[0][0], message
                case Waits():
                    self._wait(message)
                case Done():
                    ended = self._ended(message)
                    place, _ = self.clips.popleft()
                    self._begin(message.at)
                    yield place, ended
                case Started():
                    self.started = True
                    self._begin(message.at)

    def _may_say(self, message: Said) -> bool:
        """Whether this can be the truth after all that was said; so none is said for ever."""
        match message:
            case Started():
                return not self.started
            case Given(slot, shape, first):
                follows = first in (0, self._frames)
                few = self._pictures + shape[0] <= _PASSES * MOST_FRAMES
                return bool(self.clips) and slot not in self._held and follows and few
            case Waits():  # once for each message that it takes then
                return self._waited < self._sent
            case Done():
                free = not message.kept or message.slot not in self._held
                fits = bool(self.clips) and self._may_end(message.status)
                return fits and message.kept <= self._frames and free
            case Begun():  # once a clip, before anything of it
                return bool(self.clips) and not self._named

    def _may_end(self, status: str) -> bool:
        """Whether the clip in hand may end so: looked at, or decoded."""
        looked_at = isinstance(self.clips[0][1], Extracted)
        return status == "failed" or (status in REVIEWS) == looked_at

    def _take(self, given: Given) -> None:
        self._held.add(given.slot)
        self._frames = given.first + given.shape[0]
        self._pictures += given.shape[0]

    def _wait(self, message: Waits) -> None:
        """It stands still for want of a slot: that is not its fault while any is here."""
        self._waited += 1
        since = self._clock.at(max(message.at, self._began))
        if message.returned < self._returned:  # one is on its way or has come since
            self._until += self._clock.now() - since
        elif self._waits is None and self._held:
            self._waits = since

    def _ended(self, done: Done) -> Ended:
        self._resident = done.resident
        self._served += 1
        self._frames = self._pictures = 0
        times = np.array(self.memory.times(max(done.slot, 0), done.kept))
        if done.kept:
            self.give_back(done.slot)
        if not (np.isfinite(times).all() and (np.diff(times, prepend=0.0) >= 0).all()):
            raise Nonsense(times)
        return Ended(done.status, " ".join(done.message.split())[:300], times)

    @property
    def worn(self) -> bool:
        """Whether a fresh process should take over."""
        old = time.monotonic() - self._born > _OLD
        return old or self._served >= _RECYCLE or self._resident > _BLOATED

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
