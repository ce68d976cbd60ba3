"""Checks of single values from files: texts, numbers, truth values, and how they are told."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError

Check = Callable[[Any], Any]

_BITS = 1 << 63  # whole numbers go to places of 64 bits
# Halves of a character. A stray byte of a file name is kept as U+DC80 to U+DCFF, and may stand.
_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")


@dataclass(frozen=True, slots=True)
class Range:
    """Marks a number's bounds, both allowed: ``Annotated[int, Range(1, 1024)]``."""

    low: float
    high: float = _BITS - 1


class WrongError(Exception):
    """A value that is wrong; containers put its place in front while it passes through them.

    Args:
        words: what it is.
        expected: what it should be.
        kind: the error that it becomes.
    """

    def __init__(self, words: str, expected: str = "", kind: type[C4CError] = C4CError) -> None:
        super().__init__(words)
        self.words, self.expected, self.kind = words, expected, kind
        self.place = ""


def is_not(value: Any, expected: str) -> WrongError:
    """The error for a value that is not what was expected."""
    return WrongError(f"is {shown(value)}", expected)


def shown(value: Any) -> str:
    """A value as messages name it, short and on one line."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int) and value.bit_length() > 999:
        return f"a number of {value.bit_length()} bits"  # Python may refuse to spell it out
    if isinstance(value, str | int | float):
        text = ascii(value)
        return text if len(text) < 50 else f"{text[:40]}…"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return str(type(value).__name__)


def text(value: Any) -> str:
    """A text without halves of characters."""
    if type(value) is not str:
        raise is_not(value, "a text")
    if not value.isascii() and _HALF.search(value):
        raise WrongError("holds half a character (a lone surrogate)")
    return value


def path(value: Any) -> Path:
    """A text that the system takes as a path."""
    if "\0" in text(value):
        raise WrongError("holds a NUL character, which no path has")
    return Path(value)


def whole(value: Any) -> int:
    """A whole number of 64 bits."""
    if type(value) is not int:
        raise is_not(value, "a whole number")
    if not -_BITS <= value < _BITS:
        raise is_not(value, "a whole number of at most 64 bits")
    return value


def number(value: Any) -> float:
    """A finite number."""
    if type(value) is int:
        return float(whole(value))
    if type(value) is not float:
        raise is_not(value, "a number")
    if not math.isfinite(value):
        raise is_not(value, "a finite number")
    return value


def truth(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise is_not(value, "true or false")
    return value


def nothing(value: Any) -> None:
    """Null."""
    if value is not None:
        raise is_not(value, "null")


PLAIN: dict[Any, Check] = {
    str: text,
    int: whole,
    float: number,
    bool: truth,
    types.NoneType: nothing,
    Path: path,
}


def literal(known: tuple[Any, ...]) -> Check:
    """One of some values."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(one) and value == one for one in known):
            raise is_not(value, " or ".join(shown(one) for one in known))
        return value

    return check


def bounded(check: Check, bounds: Range) -> Check:
    """A number within bounds."""

    def within(value: Any) -> Any:
        found = check(value)
        if found is not None and not bounds.low <= found <= bounds.high:
            end = "on" if bounds.high == _BITS - 1 else f"to {bounds.high:.16g}"
            raise is_not(value, f"a number from {bounds.low:.16g} {end}")
        return found

    return within
