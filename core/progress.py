"""Progress of long work on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from c4c.core.terminal import visible

_BAR = 24
_TERMINAL_EVERY = 0.1
_PLAIN_EVERY = 10.0


@dataclass(frozen=True, slots=True)
class Update:
    """What a listener hears of long work.

    Attributes:
        text: one line for people.
        label: what is being done ("extract train"); empty for words that count nothing.
        done: items finished.
        total: how many there are; ``None`` when unknown.
        unit: what an item is called, plural.
    """

    text: str
    label: str = ""
    done: int = 0
    total: int | None = None
    unit: str = ""


Listener = Callable[[Update], None]
# Of this thread and task; a thread that speaks for another is started in a copy of its context.
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(progress: bool | Listener) -> Iterator[None]:
    """Within the block, progress goes where the caller wants it.

    Args:
        progress: ``True`` is stderr as before, ``False`` nowhere, a function hears each ``Update``;
            what it raises ends the work.
    """
    if progress is True:
        yield
        return
    before = _listener.set(progress or (lambda update: None))
    try:
        yield
    finally:
        _listener.reset(before)


def say(message: str) -> None:
    """Print words for people: one line on stderr, lost quietly when nobody listens."""
    if listener := _listener.get():
        listener(Update(visible(message)))
        return
    if sys.stderr is None:  # print would take standard output instead
        return
    try:
        print(visible(message), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


class Progress:
    """Counts work done and shows rate and time left.

    Use as a context manager; call ``step`` as work is finished. On a terminal the bar is
    redrawn in place; elsewhere a line is printed every ten seconds and at the end.

    Args:
        label: what is being done, for example "extract train".
        total: how many items there are, ``None`` when unknown.
        unit: what an item is called, plural ("clips").
        done: items finished by an earlier run; they do not count into the rate.
    """

    def __init__(self, label: str, total: int | None, unit: str = "clips", done: int = 0) -> None:
        self.label = label
        self.total = total
        self.unit = unit
        self.done = done
        self._before = done
        self._extra = ""
        self._started = time.monotonic()
        self._listener = _listener.get()
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._terminal = terminal and self._listener is None
        self._shown = self._started if not self._terminal else 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._show(final=True)

    def step(self, count: int = 1, extra: str = "") -> None:
        """Count ``count`` more items; ``extra`` is shown behind the rate ("840 frames/s")."""
        self.done += count
        self._extra = extra or self._extra
        every = _TERMINAL_EVERY if self._terminal or self._listener else _PLAIN_EVERY
        if time.monotonic() - self._shown >= every:
            self._show()

    def _show(self, final: bool = False) -> None:
        self._shown = time.monotonic()
        line = self.line()
        if self._listener:
            self._listener(Update(line, self.label, self.done, self.total, self.unit))
            return
        if not self._terminal:
            say(line)
            return
        try:
            sys.stderr.write("\r" + line + "\x1b[K" + ("\n" if final else ""))
            sys.stderr.flush()
        except (OSError, ValueError):
            self._terminal = False

    def line(self) -> str:
        """What is shown now, as one line."""
        rate = self.rate()
        parts = [f"{self.done}{'' if self.total is None else f'/{self.total}'} {self.unit}"]
        parts.append(f"{rate:.1f} {self.unit}/s")
        if self._extra:
            parts.append(self._extra)
        if self.total is not None and rate > 0 and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        else:
            parts.append(duration(time.monotonic() - self._started))
        bar = self._bar() if self._terminal and self.total else ""
        return visible(f"{self.label} {bar}{' · '.join(parts)}")

    def rate(self) -> float:
        """Items a second since this run began."""
        spent = time.monotonic() - self._started
        return (self.done - self._before) / spent if spent > 0 else 0.0

    def _bar(self) -> str:
        filled = min(_BAR, _BAR * self.done // self.total) if self.total else 0
        return "█" * filled + "░" * (_BAR - filled) + " "


def duration(seconds: float) -> str:
    """Seconds as a person writes them: ``42 s``, ``3 m 05 s``, ``7 h 12 m``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
