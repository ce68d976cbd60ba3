"""Decoder processes that can be killed: a file may crash, hang or bloat its own, and no other.

Results come back in the order of the clips, whatever the number of processes, so what is made
of them does not depend on it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np

from c4c.extract.decode import Decoded, Request, decode_clip, failure
from c4c.records import Clip, Frames

_RECYCLE = 500  # clips a process decodes before a fresh one takes over (leaks in codecs)
_MEMORY = 8 << 30  # bytes of address space a process may use
_DEADLINE = 60.0  # seconds, for a file of no size
_SECONDS_PER_MB = 2.0
_START = 120.0  # seconds a process may take to start, before its clip's time begins

_LATE = "took longer than its deadline; killed"


def _serve(link: Connection, request: Request) -> None:
    """What a decoder process does: a clip in, frames out, until the link closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with contextlib.suppress(EOFError, OSError):
        link.send(None)  # started: from here on the clip's time counts
        while True:
            done = decode_clip(link.recv(), request)
            pixels = np.ascontiguousarray(done.frames.pixels)
            link.send((done.status, done.message, pixels.shape, done.frames.times))
            link.send_bytes(pixels.data.cast("B") if pixels.size else b"")


class _Worker:
    """One decoder process and what it is doing."""

    def __init__(self, request: Request) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, request), daemon=True)
        self.process.start()
        theirs.close()
        self.place = -1
        self.started = False
        self.allowed = 0.0  # seconds for the clip
        self.until = 0.0
        self.served = 0

    def give(self, place: int, clip: Clip, deadline: float | None) -> None:
        self.place = place
        self.allowed = deadline or _allowance(clip)
        self.until = time.monotonic() + (self.allowed if self.started else _START)
        self.served += 1
        with contextlib.suppress(OSError):  # it died meanwhile: taking its answer says so
            self.link.send(clip)

    def take(self) -> Decoded | None:
        """The answer, a failure when the process died over the clip, or none: it has started.

        A process that stalls while it sends is killed at the deadline, which ends the wait.
        """
        left = max(0.0, self.until - time.monotonic())
        watch = threading.Timer(left, self.process.kill)
        watch.daemon = True
        watch.start()
        try:
            if not self.started:
                self.link.recv()
                self.started = True
                self.until = time.monotonic() + self.allowed
                return None
            status, message, shape, times = self.link.recv()
            pixels = np.frombuffer(self.link.recv_bytes(), np.uint8).reshape(shape)
            return Decoded(Frames(pixels, times), status, message)
        except (EOFError, OSError):
            self.process.join(5)
            if time.monotonic() >= self.until:
                return failure("failed", _LATE)
            code = self.process.exitcode
            return failure("failed", f"the decoder process died (exit code {code})")
        finally:
            watch.cancel()

    def stop(self) -> None:
        self.link.close()
        self.process.kill()
        self.process.join(5)


def _allowance(clip: Clip) -> float:
    """Seconds a clip may take; they grow with the file."""
    import os

    try:
        size = os.stat(clip.path).st_size
    except (OSError, ValueError):
        size = 0
    return _DEADLINE + _SECONDS_PER_MB * size / 1e6


def decode_many(
    clips: Sequence[Clip],
    request: Request,
    workers: int = 1,
    deadline: float | None = None,
) -> Generator[tuple[int, Decoded], None, None]:
    """Decode clips in child processes.

    Args:
        clips: what to decode.
        request: how to sample them.
        workers: processes.
        deadline: seconds a clip may take; by default a minute and more for large files.

    Yields:
        (place, decoded), in order. A clip whose process died or ran out of time is ``failed``.
    """
    pool: list[_Worker] = []
    todo = deque(range(len(clips)))
    ready: dict[int, Decoded] = {}
    following = 0
    try:
        while following < len(clips):
            _feed(pool, todo, clips, request, workers, deadline, following)
            for worker, done in _gather(pool):
                ready[worker.place] = done
                worker.place = -1
                if not worker.process.is_alive() or worker.served >= _RECYCLE:
                    pool.remove(worker)
                    worker.stop()
            while following in ready:
                yield following, ready.pop(following)
                following += 1
    finally:
        for worker in pool:
            worker.stop()


def _feed(
    pool: list[_Worker],
    todo: deque[int],
    clips: Sequence[Clip],
    request: Request,
    workers: int,
    deadline: float | None,
    following: int,
) -> None:
    """Give work to idle processes, not further ahead of the next result than memory bears."""
    ahead = following + 4 * workers + 8
    while todo and todo[0] < ahead:
        idle: Any = next((worker for worker in pool if worker.place < 0), None)
        if idle is None:
            if len(pool) >= workers:
                return
            idle = _Worker(request)
            pool.append(idle)
        place = todo.popleft()
        idle.give(place, clips[place], deadline)


def _gather(pool: list[_Worker]) -> list[tuple[_Worker, Decoded]]:
    """Wait for answers; a process past its deadline is killed and its clip failed."""
    busy = [worker for worker in pool if worker.place >= 0]
    if not busy:
        return []
    left = max(0.0, min(worker.until for worker in busy) - time.monotonic())
    answered = set(wait([worker.link for worker in busy], min(left, 1.0)))
    taken = [(worker, worker.take()) for worker in busy if worker.link in answered]
    found = [(worker, done) for worker, done in taken if done is not None]
    now = time.monotonic()
    for worker in busy:
        if worker.link not in answered and now > worker.until:
            worker.process.kill()
            worker.process.join(5)
            found.append((worker, failure("failed", _LATE)))
    return found
