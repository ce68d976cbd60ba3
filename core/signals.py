"""Stopping on request: the first signal is remembered, the second one is not argued with."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from c4c.core.errors import Interrupted, Requeue

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While open, SIGINT and SIGTERM set ``name`` instead of ending the process.

    A second signal acts as if this were not here. A first one that nobody acted on, because what
    was going on had just ended, ends the block with ``error``: more may be meant to follow it.
    Outside the main thread it does nothing.
    """

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[signal.Signals, object] = {}

    def error(self, message: str) -> Interrupted:
        """What to raise once everything is saved; it decides the exit status."""
        return Requeue(message) if self.name == signal.SIGTERM.name else Interrupted(message)

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in _SIGNALS}
            for number in _SIGNALS:
                signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        if self.name and kind is None:
            raise self.error(f"stopped by {self.name}; what was done is kept: go on as before")

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}
