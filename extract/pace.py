"""How an extraction goes: against real time, how much video is left, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from c4c.core.progress import Progress, duration


class Pace(Progress):
    """Progress over clips that knows how long they are.

    Args:
        label: what is being done.
        total: how many clips there are.
        done: clips of an earlier run.

    Attributes:
        seconds: of video that this run has extracted.
        frames: that it has encoded.
        shared: pictures that were equal to the one before, and have its feature.
    """

    def __init__(self, label: str, total: int, done: int = 0) -> None:
        super().__init__(label, total, done=done)
        self.seconds = 0.0
        self.frames = self.shared = 0
        self._clips = 0
        self._waited = self._encoded = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block frames are waited for."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    @contextmanager
    def encoding(self) -> Iterator[None]:
        """Within the block the backbone has its frames."""
        began = time.monotonic()
        yield
        self._encoded += time.monotonic() - began

    def ended(self, seconds: float, frames: int, shared: int = 0) -> None:
        """A clip of so many seconds has ended; frames encoded and shared since the last one."""
        self._clips += 1
        self.seconds += seconds
        self.frames += frames
        self.shared += shared
        self.step(extra=self._told(self.done + 1))

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Within the block a part's last batch is encoded, which may be most of the work."""
        with self.encoding():
            yield
        if self._clips:
            self._extra = self._told(self.done)

    @property
    def spent(self) -> float:
        """Seconds since this run began."""
        return time.monotonic() - self._started

    def _told(self, done: int) -> str:
        spent = max(self.spent, 1e-9)
        left = (self.total or 0) - done  # as long as those before, on average
        parts = [f"{self.frames / spent:.0f} frames/s"]
        parts += [f"{self.shared} pictures shared"] if self.shared else []
        parts.append(f"{self.seconds / spent:.1f}x real time")
        if left > 0:
            parts.append(f"{duration(left * self.seconds / self._clips)} of video left")
        slower = "decoding" if self._waited > self._encoded else "the backbone"
        return " · ".join([*parts, f"limited by {slower}"])
