"""Checks of whole records, lists and tables, made from their types once and then kept.

A check gives the converted value or raises ``WrongError``. A value that is right costs no more
than being looked at: places are put together only while an error passes through.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from itertools import repeat
from pathlib import Path
from re import fullmatch
from typing import Annotated, Any, Literal

from c4c.core.errors import C4CError, NewerVersion
from c4c.core.plain import PLAIN, Check, Range, WrongError, bounded, is_not, literal, shown, text

_DEEPEST = 32  # lists and tables inside each other, where a record takes any value


class AsList:
    """Marks a record that stands in the file as the list of its values."""


class Closed:
    """Marks a record whose unknown keys are a newer version's, and must not be ignored."""


class Rest:
    """Marks the field that takes all keys which no other field has."""


@cache
def check_of(kind: Any) -> Check:
    """What checks and converts a value that is to become a ``kind``.

    Raises:
        TypeError: no file holds such a type.
    """
    if kind in PLAIN:
        return PLAIN[kind]
    if kind is Any:
        return _anything
    if kind is object:  # whoever reads it looks at it
        return lambda value: value
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _marked(parts[0], parts[1:])
    if origin in (typing.Union, types.UnionType):
        return _union(parts)
    if origin is Literal:
        return literal(parts)
    if origin is dict:
        return _table(check_of(parts[1]))
    if origin is list:
        return _items(check_of(parts[0]))
    if origin is tuple and parts[-1] is Ellipsis:
        items = _items(check_of(parts[0]))
        return lambda value: tuple(items(value))
    if origin is tuple:
        return _row([check_of(part) for part in parts], len(parts))
    if is_dataclass(kind):
        return _record(kind, closed=False)
    raise TypeError(f"no file holds a {kind}")


def _marked(kind: Any, marks: tuple[Any, ...]) -> Check:
    if AsList in marks:
        row = _row([check_of(hint) for hint in _hints(kind).values()], len(_needed(kind)))
        return lambda value: _made(kind, row(value), {})
    if Closed in marks:
        return _record(kind, closed=True)
    bounds = next((mark for mark in marks if isinstance(mark, Range)), None)
    return bounded(check_of(kind), bounds) if bounds else check_of(kind)


def _union(parts: tuple[Any, ...]) -> Check:
    """Which of several types is meant is seen by the value's own: no two may look alike."""
    checks: dict[type, Check] = {}
    for part in parts:
        for seen in _looks(part):
            checks.setdefault(seen, check_of(part))
    expected = " or ".join(dict.fromkeys(_WORDS[_looks(part)[0]] for part in parts))

    def check(value: Any) -> Any:
        one = checks.get(type(value))
        if one is None:
            raise is_not(value, expected)
        return one(value)

    return check


def _looks(kind: Any) -> tuple[type, ...]:
    """The types that a parser gives for what is to become a ``kind``."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return (list,) if AsList in parts else _looks(parts[0])
    if origin is Literal:
        return tuple(type(one) for one in parts)
    if origin in (list, tuple):
        return (list,)
    if kind is float:
        return float, int
    if kind is Path:
        return (str,)
    return (kind,) if kind in _WORDS else (dict,)


_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    types.NoneType: "null",
    list: "a list",
    dict: "an object",
}


def _anything(value: Any, depth: int = 0) -> Any:
    """A plain value whose types nobody declared: it still has no depth without end."""
    if depth > _DEEPEST:
        raise WrongError(f"is nested more than {_DEEPEST} deep")
    if type(value) is list:
        return _items(lambda inner: _anything(inner, depth + 1))(value)
    if type(value) is dict:
        return _table(lambda inner: _anything(inner, depth + 1))(value)
    if type(value) not in PLAIN:
        raise is_not(value, "a plain value")
    return PLAIN[type(value)](value)


def _items(check: Check) -> Check:
    def items(value: Any) -> list[Any]:
        if type(value) is not list:
            raise is_not(value, "a list")
        return _each(repeat(check), value)

    return items


def _row(checks: list[Check], least: int) -> Check:
    """A list with a check for each place; those from ``least`` on may be missing."""

    def row(value: Any) -> list[Any]:
        if type(value) is not list or not least <= len(value) <= len(checks):
            held = f"a list of {len(value)}" if type(value) is list else shown(value)
            raise WrongError(f"is {held}", f"a list of {len(checks)}")
        return _each(checks, value)

    return row


def _each(checks: Iterable[Check], value: list[Any]) -> list[Any]:
    found: list[Any] = []
    try:
        for check, item in zip(checks, value, strict=False):
            found.append(check(item))
    except WrongError as wrong:
        wrong.place = f"[{len(found)}]{wrong.place}"
        raise
    return found


def _table(check: Check) -> Check:
    def table(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise is_not(value, "an object")
        return {text(name): _at(name, check, inner) for name, inner in value.items()}

    return table


def _at(name: str, check: Check, value: Any) -> Any:
    """The value under a name, checked."""
    try:
        return check(value)
    except WrongError as wrong:
        plain = fullmatch(r"[\w-]{1,60}", name)
        wrong.place = (f".{name}" if plain else f"[{shown(name)}]") + wrong.place
        raise


def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {one.name: hints[one.name] for one in fields(kind)}


def _needed(kind: Any) -> set[str]:
    return {
        one.name
        for one in fields(kind)
        if one.default is MISSING and one.default_factory is MISSING
    }


def _record(kind: Any, closed: bool) -> Check:
    hints, needed = _hints(kind), _needed(kind)
    rest = next((name for name, hint in hints.items() if Rest in typing.get_args(hint)), "")
    others = check_of(hints.pop(rest)) if rest else None
    checks = {name: check_of(hint) for name, hint in hints.items()}

    def record(value: Any) -> Any:
        if type(value) is not dict:
            raise is_not(value, "an object")
        unknown = {name: inner for name, inner in value.items() if name not in checks}
        if closed and unknown:
            names = ", ".join(sorted(unknown))[:100]
            raise WrongError(f"is of a newer c4c (it records: {names})", kind=NewerVersion)
        found = {}
        for name, check in checks.items():
            if name in value:
                found[name] = _at(name, check, value[name])
            elif name in needed:
                raise WrongError(f"has no '{name}'")
        if others is not None:
            found[rest] = others(unknown)
        return _made(kind, [], found)

    return record


def _made(kind: Any, values: list[Any], named: dict[str, Any]) -> Any:
    """The record; what its own ``__post_init__`` refuses is told with its place."""
    try:
        return kind(*values, **named)
    except C4CError as error:
        raise WrongError(f"is wrong: {str(error).rstrip('.')}") from None
