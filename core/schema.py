"""Values from files, checked against the types of the record that they are to become.

A dataclass is the schema: its annotations say what each key of a JSON or TOML table holds, its
defaults which keys may be missing, its ``__post_init__`` what must fit together. ``parse`` gives
the record, or one ``C4CError`` that names the file and the value; ``read_record`` reads the file
first. A number of the schema above the known one is a ``NewerVersion``, never damage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from c4c.core.errors import C4CError, Damaged, NewerVersion
from c4c.core.files import read_json
from c4c.core.plain import Range, WrongError, is_not, shown
from c4c.core.typed import AsList, Closed, Rest, check_of

__all__ = ["AsList", "Closed", "Range", "Rest", "parse", "read_record", "sealed"]

T = TypeVar("T")


def read_record(path: Path, kind: type[T], schema: int | None = None, remedy: str = "") -> T:
    """The record in a JSON file; see ``parse``.

    Raises:
        C4CError: see ``read_json`` and ``parse``.
        NewerVersion: the file is of a later schema.
    """
    return parse(kind, read_json(path), str(path), schema, remedy)


def parse(kind: type[T], value: Any, where: str, schema: int | None = None, remedy: str = "") -> T:
    """``value`` as a ``kind``, when it is one in every part.

    Args:
        kind: a dataclass, or lists, tuples, dicts and unions of dataclasses and plain types.
        value: what a JSON or TOML parser gave.
        where: the file (and line), for messages.
        schema: newest ``schema`` number that is understood, of kinds that carry one. What also
            carries ``sha256`` (see ``sealed``) must agree with it.
        remedy: what to do about a value that is wrong, for messages.

    Raises:
        C4CError: a key is missing, or a value is of another type, not finite or out of bounds.
        Damaged: the record differs from its checksum.
        NewerVersion: ``schema`` is above the known one, or a ``Closed`` record has unknown keys.

    Example:
        >>> parse(dict[str, tuple[int, ...]], {"sizes": [3, 4]}, "a.json")
        {'sizes': (3, 4)}
        >>> parse(dict[str, tuple[int, ...]], {"sizes": [3, "4"]}, "a.json")
        Traceback (most recent call last):
        ...
        c4c.core.errors.C4CError: a.json: sizes[1] is '4', expected a whole number.
    """
    try:
        if schema is not None:
            _check_schema(value, schema)
        asked: Any = kind
        record: T = check_of(asked)(value)
        if schema is not None and "sha256" in value and value["sha256"] != _seal(value):
            raise WrongError("differs from its checksum", kind=Damaged)
        return record
    except WrongError as wrong:
        raise _told(wrong, where, remedy) from None
    except RecursionError:  # in a key that no record has, but that the checksum is over
        raise C4CError(f"{where} is nested too deeply.") from None


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A record's content with its checksum as the last key, ``sha256``.

    It is that of the UTF-8 text of the other keys as ``json.dumps`` spells them, and a zero byte.
    """
    return {**content, "sha256": _seal(content)}


def _seal(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest).encode() + b"\0").hexdigest()


def _check_schema(value: Any, newest: int) -> None:
    """The number comes first: of a newer version, nothing else is known."""
    if type(value) is not dict:
        raise is_not(value, "an object")
    number = value.get("schema")
    if type(number) is not int or number < 1:
        raise WrongError("is not a file of c4c: it has no schema number")
    if number > newest:
        raise WrongError(
            f"has schema {shown(number)}, this c4c reads up to {newest}", kind=NewerVersion
        )


def _told(wrong: WrongError, where: str, remedy: str) -> C4CError:
    """The error that users see, on one line."""
    place = wrong.place.removeprefix(".")
    expected = f", expected {wrong.expected}" if wrong.expected else ""
    advice = "upgrade c4c" if wrong.kind is NewerVersion else remedy
    line = f"{where}{': ' + place if place else ''} {wrong.words}{expected}"
    line += f"; {advice}." if advice else "."
    return wrong.kind(line)
