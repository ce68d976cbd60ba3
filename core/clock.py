"""How long this process has run: deadlines that a pause of the machine does not use up."""

from __future__ import annotations

import threading
import time
from collections import deque

_TICK = 0.25  # seconds between two looks at the clock
_GAP = 1.0  # more than that between two looks: the process did not run
_KEPT = 64  # gaps that moments are still compared with one by one


class RunningClock:
    """A clock that stands still while this process does.

    A thread looks at the time again and again. Where far more has gone by than it slept, the
    process was stopped (SIGSTOP, as schedulers suspend jobs), its machine was paused, or nothing
    else in it could look at anything either: that does not count.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = time.monotonic()
        self._gaps: deque[tuple[float, float]] = deque()
        self._forgotten = 0.0  # seconds of gaps that are no longer kept
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.wait(_TICK):
            self._look()

    def _look(self) -> None:
        """Whoever comes first after a gap notes it: the thread, or one who asks for the time."""
        now = time.monotonic()
        with self._lock:
            if now - self._seen > _GAP:
                self._gaps.append((self._seen, now))
            if len(self._gaps) > _KEPT:
                start, end = self._gaps.popleft()
                self._forgotten += end - start
            self._seen = max(self._seen, now)

    def at(self, moment: float) -> float:
        """Seconds on this clock at a moment of ``time.monotonic``, of any process, not long ago."""
        self._look()
        with self._lock:
            gaps = [min(end, moment) - start for start, end in self._gaps if start < moment]
        return moment - self._forgotten - sum(gaps)

    def now(self) -> float:
        """Seconds on this clock."""
        return self.at(time.monotonic())

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
