"""Ways in which a file goes wrong: bits, pieces and ends of bytes; values and keys of JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

# What a value becomes: other types, ends of ranges, what no JSON may hold, what looks alike.
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 1.5, -0.0, 1e308, 1e-320,
    float("nan"), float("inf"), float("-inf"), "", "0", "NaN", "\ud800", "\udcff", "\0", "\u2028",
    "../../x", "x" * 5000, [], [[]], {}, {"": None}, [None], ["a", 1], {"schema": 1},
]  # fmt: skip
BYTES = [
    b"",
    b"\0",
    b"\n",
    b"\xff",
    b'"',
    b"[",
    b"{",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"9" * 5000,
]


def mutated(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """``data`` with one to a few things wrong; ``other`` is what may be spliced into it."""
    for _ in range(chance.choice([1, 1, 1, 2, 8])):
        data = chance.choice(_WAYS)(data, chance, other)
    return data


def _flip(data: bytes, chance: random.Random, other: bytes) -> bytes:
    found = bytearray(data or b"\0")
    found[_place(found, chance) % len(found)] ^= 1 << chance.randrange(8)
    return bytes(found)


def _place(data: bytes | bytearray, chance: random.Random) -> int:
    """Anywhere, and as often near the beginning or the end, where formats have their tables."""
    near = chance.choice([len(data), 64, 512])
    place = chance.randrange(min(near, len(data)) or 1)
    return place if chance.random() < 0.5 else max(0, len(data) - 1 - place)


def _cut(data: bytes, chance: random.Random, other: bytes) -> bytes:
    return data[: _place(data, chance)]


def _drop(data: bytes, chance: random.Random, other: bytes) -> bytes:
    place = _place(data, chance)
    return data[:place] + data[place + chance.randrange(1, 64) :]


def _twice(data: bytes, chance: random.Random, other: bytes) -> bytes:
    place, size = _place(data, chance), chance.choice([1, 8, 100, len(data)])
    return data[: place + size] + data[place:]


def _splice(data: bytes, chance: random.Random, other: bytes) -> bytes:
    place, start = _place(data, chance), _place(other, chance)
    return data[:place] + other[start : start + 200] + data[place:]


def _zero(data: bytes, chance: random.Random, other: bytes) -> bytes:
    place, size = _place(data, chance), chance.choice([1, 8, 512])
    return data[:place] + bytes(size) + data[place + size :]


def _insert(data: bytes, chance: random.Random, other: bytes) -> bytes:
    place = _place(data, chance)
    return data[:place] + chance.choice(BYTES) + data[place:]


def _deep(data: bytes, chance: random.Random, other: bytes) -> bytes:
    place, bracket = _place(data, chance), chance.choice([b"[", b'{"a":', b"(", b"a."])
    return data[:place] + bracket * chance.choice([40, 2000, 100_000]) + data[place:]


_WAYS: list[Callable[[bytes, random.Random, bytes], bytes]] = [
    _flip, _flip, _cut, _drop, _twice, _splice, _zero, _insert, _deep,
]  # fmt: skip


def mutated_json(value: Any, chance: random.Random) -> Any:
    """A JSON value with one node, key or item that is otherwise."""
    value = json.loads(json.dumps(value))
    places = [place for place in _nodes(value) if place]
    if not places or chance.random() < 0.03:
        return chance.choice(VALUES)
    *path, last = chance.choice(places)
    holder = value
    for step in path:
        holder = holder[step]
    _spoil(holder, last, chance)
    return value


def _spoil(holder: Any, key: Any, chance: random.Random) -> None:
    way = chance.randrange(6)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        holder[chance.choice(["more", "", "schema", str(key).upper()])] = holder.pop(key)
    elif way == 2 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif way == 3 and isinstance(holder, list):
        holder[key], holder[0] = holder[0], holder[key]
    elif way == 4:
        holder[key] = [holder[key]] if chance.random() < 0.5 else {"value": holder[key]}
    else:
        holder[key] = chance.choice(VALUES)


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value if isinstance(value, list) else []
    for key, inner in value.items() if isinstance(value, dict) else enumerate(items):
        yield from _nodes(inner, (*path, key))
