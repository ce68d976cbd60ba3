"""Decoder processes that can be killed: a file may crash, hang or bloat its own, and no other.

Results come back in the order of the clips, whatever the number of processes, so what is made
of them does not depend on it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait

import numpy as np
import numpy.typing as npt

from c4c.core.clock import RunningClock
from c4c.core.errors import C4CError
from c4c.core.records import Clip, Frames
from c4c.core.terminal import open_standard_files
from c4c.extract.video.decode import Decoded, failure
from c4c.extract.video.link import Given, Nonsense
from c4c.extract.video.request import Request
from c4c.extract.video.worker import Ended, Worker, without_frames

_STARTS = 3  # times in a row that a process may fail to start, which is no clip's fault
_QUEUE = 4  # clips that a process has in hand: it goes on while the parent is busy
_PATIENCE = 0.5  # seconds between looks at whether somebody asks to stop, at most
_AHEAD = 16  # clips a process may be ahead of the one that is waited for

_LATE = "took longer than its deadline; killed"
_NONSENSE = "the decoder process said what none says; killed"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some of a clip's frames, in order.

    Attributes:
        pixels: uint8 [n, H, W, 3]; a view that holds until the next piece is asked for.
        first: number of the first of them. 0 once more: what was given before is void.
    """

    pixels: npt.NDArray[np.uint8]
    first: int


def decode_pieces(
    clips: Sequence[Clip],
    request: Request,
    workers: int = 1,
    deadline: float | None = None,
    between: Callable[[], object] = lambda: None,
) -> Generator[Piece | Ended, None, None]:
    """Decode clips in child processes, a few frames at a time: memory is bounded.

    Args:
        clips: what to decode.
        request: how to sample them.
        workers: processes.
        deadline: seconds a clip may take, those in which this process stood still not counted;
            by default a minute and more for large files.
        between: called before each part and at least once a second while none comes; what it
            raises ends the decoding.

    Yields:
        For each clip in order its pieces, then its end. A clip whose process died or ran out of
        time is ``failed``.

    Raises:
        C4CError: processes cannot be started.
    """
    pool = _Pool(clips, request, workers, deadline)
    try:
        for place in range(len(clips)):
            yield from pool.parts(place, between)
    finally:
        pool.stop()


def decode_many(
    clips: Sequence[Clip],
    request: Request,
    workers: int = 1,
    deadline: float | None = None,
    between: Callable[[], object] = lambda: None,
) -> Generator[tuple[int, Decoded], None, None]:
    """Decode clips in child processes, each clip's frames together.

    Args:
        clips: what to decode.
        request: how to sample them.
        workers: processes.
        deadline: seconds a clip may take, those in which this process stood still not counted;
            by default a minute and more for large files.
        between: called before each part and at least once a second while none comes; what it
            raises ends the decoding.

    Yields:
        (place, decoded), in order. A clip whose process died or ran out of time is ``failed``.

    Raises:
        C4CError: processes cannot be started.
    """
    parts = decode_pieces(clips, request, workers, deadline, between)
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


class _Pool:
    """Decoder processes, what they are to decode, and what has come from them."""

    def __init__(
        self, clips: Sequence[Clip], request: Request, workers: int, deadline: float | None
    ) -> None:
        open_standard_files()
        self._clips, self._request, self._deadline = clips, request, deadline
        self._arrived: list[deque[tuple[Worker, Given] | Ended]] = [deque() for _ in clips]
        self._most = workers
        self._workers: list[Worker] = []
        self._clock = RunningClock()
        self._next = 0  # the first clip that nobody has
        self._stillborn = 0

    def parts(
        self, place: int, between: Callable[[], object]
    ) -> Generator[Piece | Ended, None, None]:
        """Pieces of one clip, and its end; clips are asked for one after the other."""
        arrived = self._arrived[place]
        while True:
            self._feed(place)
            self._gather(0.0 if arrived else _PATIENCE)
            between()
            if not arrived:
                continue
            part = arrived.popleft()
            if isinstance(part, Ended):
                yield part
                return
            worker, given = part
            yield Piece(worker.memory.pixels(given.slot, given.shape), given.first)
            worker.give_back(given.slot)

    def _feed(self, place: int) -> None:
        """Give clips to the processes, not further ahead of ``place`` than is of use."""
        while self._next < min(len(self._clips), place + _AHEAD * self._most):
            able = [one for one in self._workers if len(one.clips) < _QUEUE and not one.worn]
            worker = min(able, key=lambda one: len(one.clips), default=None)
            if (worker is None or worker.clips) and len(self._workers) < self._most:
                worker = Worker(self._request, self._deadline, self._clock)
                self._workers.append(worker)
            if worker is None:
                return
            worker.give(self._next, self._clips[self._next])
            self._next += 1

    def _gather(self, seconds: float) -> None:
        """Hear what there is, or wait a while for it; replace what is dead, late or worn out."""
        links = [worker.link.fileno() for worker in self._workers]
        answered = set(wait(links, seconds))
        for number, worker in enumerate(self._workers):
            why = ""
            try:
                if worker.link.fileno() in answered:
                    self._take(worker)
            except Nonsense:
                why = _NONSENSE
            except (EOFError, OSError):
                why = f"the decoder process died (exit code {worker.end()})"
            if not why and worker.late:
                why = _LATE
            done = worker.worn and not worker.clips and self._next < len(self._clips)
            if why or done:
                self._workers[number] = self._replaced(worker, why)

    def _take(self, worker: Worker) -> None:
        for place, what in worker.hear():
            self._arrived[place].append(what if isinstance(what, Ended) else (worker, what))

    def _replaced(self, worker: Worker, why: str) -> Worker:
        """A fresh process, which has in hand what the other had; what ended that has failed."""
        self._stillborn = 0 if worker.started else self._stillborn + 1
        if self._stillborn == _STARTS:
            raise C4CError(f"No process to decode in can be started: {why}.")
        worker.stop()
        if worker.started and why and worker.clips:
            place, _ = worker.clips.popleft()
            self._arrived[place].append(without_frames("failed", why))
        return Worker(self._request, self._deadline, self._clock, worker.clips)

    def stop(self) -> None:
        """Kill all processes."""
        self._clock.stop()
        for worker in self._workers:
            worker.stop()
