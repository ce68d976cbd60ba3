"""Decoder processes that can be killed: a file may crash, hang or bloat its own, and no other.

Results come back in the order of the clips, whatever the number of processes, so what is made
of them does not depend on it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import spawn
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError
from c4c.extract.decode import Decoded, Request, decode_clip, failure
from c4c.extract.handover import Done, Given, Memory, Sender, Waits
from c4c.records import Clip, Frames

_RECYCLE = 500  # clips a process decodes before a fresh one takes over (leaks in codecs)
_BLOATED = 1 << 30  # or bytes of memory that it keeps
_MEMORY = 8 << 30  # bytes of address space a process may use
_DEADLINE = 60.0  # seconds, for a file of no size
_SECONDS_PER_MB = 2.0
_START = 120.0  # seconds a process may take to start, before its clip's time begins
_STARTS = 3  # times in a row that it may fail to, which is no clip's fault
_QUEUE = 4  # clips that a process has in hand: it goes on while the parent is busy
_AHEAD = 16  # clips a process may be ahead of the one that is waited for

_LATE = "took longer than its deadline; killed"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a clip's frames, in order.

    Attributes:
        pixels: uint8 [n, H, W, 3]; a view that holds until the next piece is asked for.
        first: number of the first of them. 0 once more: what was given before is void.
    """

    pixels: npt.NDArray[np.uint8]
    first: int


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


def decode_pieces(
    clips: Sequence[Clip],
    request: Request,
    workers: int = 1,
    deadline: float | None = None,
) -> Generator[Piece | Ended, None, None]:
    """Decode clips in child processes, a few frames at a time: memory is bounded.

    Args:
        clips: what to decode.
        request: how to sample them.
        workers: processes.
        deadline: seconds a clip may take; by default a minute and more for large files.

    Yields:
        For each clip in order its pieces, then its end. A clip whose process died or ran out of
        time is ``failed``.

    Raises:
        C4CError: processes cannot be started.
    """
    pool = _Pool(clips, request, workers, deadline)
    try:
        for place in range(len(clips)):
            yield from pool.parts(place)
    finally:
        pool.stop()


def decode_many(
    clips: Sequence[Clip],
    request: Request,
    workers: int = 1,
    deadline: float | None = None,
) -> Generator[tuple[int, Decoded], None, None]:
    """Decode clips in child processes, each clip's frames together.

    Args:
        clips: what to decode.
        request: how to sample them.
        workers: processes.
        deadline: seconds a clip may take; by default a minute and more for large files.

    Yields:
        (place, decoded), in order. A clip whose process died or ran out of time is ``failed``.

    Raises:
        C4CError: processes cannot be started.
    """
    parts = decode_pieces(clips, request, workers, deadline)
    with contextlib.closing(parts):
        for place in range(len(clips)):
            yield place, _whole(parts)


def _whole(parts: Iterable[Piece | Ended]) -> Decoded:
    """One clip, put together."""
    held: list[npt.NDArray[np.uint8]] = []
    end = without_frames("failed", "")
    for part in parts:
        if isinstance(part, Ended):
            end = part
            break
        if part.first == 0:
            held = []
        held.append(np.array(part.pixels))
    if not len(end.times):
        return failure(end.status, end.message)
    pixels = held[0] if len(held) == 1 else np.concatenate(held)
    return Decoded(Frames(pixels[: len(end.times)], end.times), end.status, end.message)


def serve(link: int, memory: int) -> None:
    """What a decoder process does: a clip in, frames out, until the link closes.

    Args:
        link: file handle of the connection to the parent, which sends a ``Request`` first.
        memory: file handle of the shared memory.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
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


def _start(link: Connection, memory: Memory) -> subprocess.Popen[bytes]:
    """A decoder process; unlike multiprocessing's it does not import the caller's script."""
    handles = (link.fileno(), memory.handle)
    code = f"from c4c.extract.workers import serve; serve{handles}"
    return subprocess.Popen(
        [spawn.get_executable(), "-P", "-c", code],
        pass_fds=handles,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def _allowance(clip: Clip) -> float:
    """Seconds a clip may take; they grow with the file."""
    try:
        size = os.stat(clip.path).st_size
    except (OSError, ValueError):
        size = 0
    return _DEADLINE + _SECONDS_PER_MB * size / 1e6


def _open_standard_files() -> None:
    """Where one is closed, what is opened next takes its number, and what is said goes there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


class _Worker:
    """One decoder process and the clips that it has in hand, in ascending order."""

    def __init__(self, pool: _Pool, clips: Iterable[int] = ()) -> None:
        self.pool = pool
        self.memory = Memory()
        self.link, theirs = multiprocessing.Pipe()
        with theirs:
            self.process = _start(theirs, self.memory)
        self.clips: deque[int] = deque()
        self.until = time.monotonic() + _START  # when the clip in hand is late
        self.waits: float | None = None  # since when it has waited for a slot
        self.started = False
        self.returned = 0  # slots given back
        self.served = 0
        self.resident = 0  # bytes of memory that it keeps
        self._send(pool.request)
        for place in clips:
            self.give(place)

    def give(self, place: int) -> None:
        """Hand over a clip to decode after those it has."""
        self.clips.append(place)
        if self.started and len(self.clips) == 1:
            self._begin(time.monotonic())
        self._send(self.pool.clips[place])

    def _begin(self, now: float) -> None:
        """The time of the clip in hand begins."""
        if self.clips:
            clip = self.pool.clips[self.clips[0]]
            self.until = now + (self.pool.deadline or _allowance(clip))

    def _send(self, message: object) -> None:
        with contextlib.suppress(OSError):  # it died meanwhile: its link says so
            self.link.send(message)

    def give_back(self, slot: int) -> None:
        """What a slot held is taken; time that was waited for it does not count."""
        self.returned += 1
        if self.waits is not None:
            self.until += time.monotonic() - self.waits
            self.waits = None
        self._send(slot)

    def hear(self) -> None:
        """Take what the process has said.

        Raises:
            EOFError, OSError: it is dead.
        """
        while self.link.poll():
            message = self.link.recv()
            match message:
                case Given():
                    self.pool.arrived[self.clips[0]].append((self, message))
                case Waits() if message.returned == self.returned:
                    self.waits = message.at
                case Waits():  # a slot is on its way or has come: it waited no longer than this
                    self.until += time.monotonic() - message.at
                case Done():
                    self.pool.arrived[self.clips.popleft()].append(self._ended(message))
                    self.served += 1
                    self._begin(message.at)
                case float():
                    self.started = True
                    self._begin(message)

    def _ended(self, done: Done) -> Ended:
        self.resident = done.resident
        times = np.array(self.memory.times(max(done.slot, 0), done.kept))
        if done.kept:
            self.give_back(done.slot)
        return Ended(done.status, done.message, times)

    @property
    def worn(self) -> bool:
        """Whether a fresh process should take over."""
        return self.served >= _RECYCLE or self.resident > _BLOATED

    @property
    def late(self) -> bool:
        """Whether it has had its time, and not for want of a slot."""
        busy = bool(self.clips) and self.waits is None
        return busy and time.monotonic() > self.until and not self.link.poll()

    def end(self) -> None:
        """Wait for a process that has ended; not for long, should the kernel hold it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)

    def stop(self) -> None:
        """Kill the process; what it gave can still be taken."""
        self.process.kill()
        self.end()
        self.link.close()
        self.memory.close()


class _Pool:
    """Decoder processes, what they are to decode, and what has come from them."""

    def __init__(
        self, clips: Sequence[Clip], request: Request, workers: int, deadline: float | None
    ) -> None:
        _open_standard_files()
        self.clips, self.request, self.deadline = clips, request, deadline
        self.arrived: list[deque[Any]] = [deque() for _ in clips]
        self._most = workers
        self._workers: list[_Worker] = []
        self._next = 0  # the first clip that nobody has
        self._stillborn = 0

    def parts(self, place: int) -> Generator[Piece | Ended, None, None]:
        """Pieces of one clip, and its end; clips are asked for one after the other."""
        arrived = self.arrived[place]
        while True:
            self._feed(place)
            self._gather(0.0 if arrived else 1.0)
            while arrived:
                part = arrived.popleft()
                if isinstance(part, Ended):
                    yield part
                    return
                worker, given = part
                yield Piece(worker.memory.pixels(given.slot, given.shape), given.first)
                worker.give_back(given.slot)

    def _feed(self, place: int) -> None:
        """Give clips to the processes, not further ahead of ``place`` than is of use."""
        while self._next < min(len(self.clips), place + _AHEAD * self._most):
            able = [one for one in self._workers if len(one.clips) < _QUEUE and not one.worn]
            worker = min(able, key=lambda one: len(one.clips), default=None)
            if (worker is None or worker.clips) and len(self._workers) < self._most:
                worker = _Worker(self)
                self._workers.append(worker)
            if worker is None:
                return
            worker.give(self._next)
            self._next += 1

    def _gather(self, seconds: float) -> None:
        """Hear what there is, or wait a while for it; replace what is dead, late or worn out."""
        links = [worker.link for worker in self._workers]
        answered = set(wait(links, seconds))
        for number, worker in enumerate(self._workers):
            why = ""
            try:
                if worker.link in answered:
                    worker.hear()
            except (EOFError, OSError):
                worker.end()
                why = f"the decoder process died (exit code {worker.process.returncode})"
            if not why and worker.late:
                why = _LATE
            if why or (worker.worn and not worker.clips):
                self._workers[number] = self._replaced(worker, why)

    def _replaced(self, worker: _Worker, why: str) -> _Worker:
        """A fresh process, which has in hand what the other had; what ended that has failed."""
        self._stillborn = 0 if worker.started else self._stillborn + 1
        if self._stillborn == _STARTS:
            raise C4CError(f"No process to decode in can be started: {why}.")
        worker.stop()
        if worker.started and why and worker.clips:
            self.arrived[worker.clips.popleft()].append(without_frames("failed", why))
        return _Worker(self, worker.clips)

    def stop(self) -> None:
        """Kill all processes."""
        for worker in self._workers:
            worker.stop()
