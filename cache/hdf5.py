"""HDF5 from elsewhere, read without libhdf5: the few forms that a shard has, or an error.

libhdf5 follows what a file says wherever it leads: one changed byte makes it loop for ever. This
reader knows only what c4c writes (the oldest form of HDF5: superblock 0, one group, version 1
object headers, contiguous arrays), follows each address once, and counts what it reads. So it
ends, whatever the bytes are, and nothing leads out of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NOWHERE = (1 << 64) - 1
_MOST = 32  # arrays, attributes, messages of an object, blocks and nodes: a shard has 11 arrays
_WIDEST = 1 << 40  # elements along an axis; also of an array without any
_LONGEST = 1 << 12  # bytes of a header block; c4c's have some hundred

# Messages of an object header.
_NIL, _SPACE, _TYPE, _OLD_FILL, _FILL, _LAYOUT, _ATTRIBUTE = 0, 1, 3, 4, 5, 8, 12
_CONTINUED, _GROUP, _CHANGED = 16, 17, 18
_OF_ARRAYS = {_SPACE, _TYPE, _OLD_FILL, _FILL, _LAYOUT, _CHANGED}
_OF_GROUPS = {_GROUP, _ATTRIBUTE, _CHANGED}

# How HDF5 spells the types of a shard's arrays, all little-endian.
_TYPES = {
    bytes.fromhex("11200f0002000000000010000a05000a0f000000"): np.float16,
    bytes.fromhex("11201f000400000000002000170800177f000000"): np.float32,
    bytes.fromhex("10080000080000000000400000000000"): np.int64,
    bytes.fromhex("10000000040000000000200000000000"): np.uint32,
    bytes.fromhex("10000000010000000000080000000000"): np.uint8,
}


class MalformedError(ValueError):
    """Bytes that are not of the form; the words say what is wrong."""


@dataclass(frozen=True, slots=True)
class Array:
    """Where an array lies.

    Attributes:
        dtype: of its elements.
        shape: its lengths.
        start: the first byte in the file.
        size: bytes.
    """

    dtype: npt.DTypeLike
    shape: tuple[int, ...]
    start: int
    size: int

    def of(self, image: Image) -> npt.NDArray[np.generic]:
        """The array as a view of the file's bytes."""
        raw = image[self.start : self.start + self.size]
        view: npt.NDArray[np.generic] = raw.view(self.dtype).reshape(self.shape)
        return view


@dataclass(frozen=True, slots=True)
class Root:
    """The root group.

    Attributes:
        attributes: whole numbers, and texts of fixed length, by name.
        tree: where the tree of its links lies, ``heap`` where their names.
    """

    attributes: dict[str, int | bytes]
    tree: int
    heap: int


def read_root(image: Image) -> Root:
    """The root group of the file whose bytes are ``image``, uint8 [size].

    Raises:
        MalformedError: it is not HDF5, or of a form that c4c does not write.
    """
    file = _File(image)
    if file.piece(0, 8) != _SIGNATURE:
        raise MalformedError("it is not HDF5")
    if file.piece(8, 8) != bytes([0, 0, 0, 0, 0, 8, 8, 0]) or file.number(24, 8) != 0:
        raise MalformedError("its HDF5 is not of the form that c4c writes")
    attributes: dict[str, int | bytes] = {}
    group = b""
    for kind, body in file.messages(file.number(64, 8), _OF_GROUPS):
        if kind == _ATTRIBUTE:
            name, value = _attribute(body)
            attributes[name] = value
        elif kind == _GROUP:
            group = body
    return Root(attributes, _number(group, 0, 8), _number(group, 8, 8))


def read_arrays(image: Image, root: Root) -> dict[str, Array]:
    """The arrays of the file whose bytes are ``image``, by name.

    Raises:
        MalformedError: it is not whole, or holds what is no plain array.
    """
    file = _File(image)
    if file.number(40, 8) != len(image):
        raise MalformedError("it is cut short, or something was added")
    links = file.links(root.tree, root.heap)
    arrays = {name: file.array(name, address) for name, address in links}
    _refuse_overlaps(arrays)
    return arrays


class _File:
    """The bytes of a file; every access is bounded."""

    def __init__(self, image: Image) -> None:
        self.image = image
        self.seen: set[int] = set()

    def piece(self, start: int, size: int) -> bytes:
        if start + size > len(self.image):
            raise MalformedError("it points past its end")
        return self.image[start : start + size].tobytes()

    def number(self, start: int, size: int) -> int:
        return int.from_bytes(self.piece(start, size), "little")

    def visit(self, address: int, signature: bytes) -> None:
        """Begin to read what lies at ``address``; nothing is read twice."""
        if address in self.seen or len(self.seen) > 4 * _MOST:
            raise MalformedError("its parts lead in a circle")
        self.seen.add(address)
        if self.piece(address, len(signature)) != signature:
            raise MalformedError("its parts are not where they should be")

    def messages(self, address: int, known: set[int]) -> Iterator[tuple[int, bytes]]:
        """Kind and body of each message of the object header at ``address``."""
        self.visit(address, b"\1\0")
        blocks = [(address + 16, self.number(address + 8, 4))]
        count = 0
        for start, size in blocks:
            block = self.piece(start, size) if size <= _LONGEST else b""
            place = 0
            while place + 8 <= len(block):
                kind, length, flags = (_number(block, place + at, n) for at, n in _HEAD)
                body = block[place + 8 : place + 8 + length]
                place, count = place + 8 + length, count + 1
                if len(body) != length or flags & 2 or count > _MOST:
                    raise MalformedError("an object of it has a broken header")
                if kind == _CONTINUED:
                    blocks.append((_number(body, 0, 8), _number(body, 8, 8)))
                elif kind in known:
                    yield kind, body
                elif kind != _NIL:
                    raise MalformedError("it holds what no shard has (links to elsewhere, filters)")
            if place != size:
                raise MalformedError("an object of it has a broken header")

    def links(self, tree: int, heap: int) -> list[tuple[str, int]]:
        """Names in the root group, and where their object headers lie."""
        names = self._names(heap)
        self.visit(tree, b"TREE\0\0")
        count = self.number(tree + 6, 2)
        siblings = self.number(tree + 8, 8), self.number(tree + 16, 8)
        if count > _MOST or siblings != (_NOWHERE, _NOWHERE):
            raise MalformedError("it holds more than a shard")
        found: list[tuple[str, int]] = []
        for place in range(count):
            node = self.number(tree + 32 + 16 * place, 8)
            self.visit(node, b"SNOD\1\0")
            entries = self.number(node + 6, 2)
            if entries > _MOST or len(found) > _MOST:
                raise MalformedError("it holds more than a shard")
            found += [self._link(node + 8 + 40 * entry, names) for entry in range(entries)]
        if len({name for name, _ in found}) != len(found):
            raise MalformedError("it holds two arrays of one name")
        return found

    def _names(self, heap: int) -> bytes:
        """The names' bytes; the chain of free places behind them must end, as readers follow it."""
        self.visit(heap, b"HEAP\0\0\0\0")
        size, free = self.number(heap + 8, 8), self.number(heap + 16, 8)
        if size > _LONGEST:
            raise MalformedError("it holds more than a shard")
        data = self.piece(self.number(heap + 24, 8), size)
        # c4c leaves one free place at most; 1 is the end of the chain.
        if free not in (1, _NOWHERE) and (free + 16 > size or _number(data, free, 8) != 1):
            raise MalformedError("its parts lead in a circle")
        return data

    def _link(self, entry: int, names: bytes) -> tuple[str, int]:
        start = self.number(entry, 8)
        name = names[start : names.find(b"\0", start)] if start < len(names) else b""
        if self.number(entry + 16, 4) == 2:
            raise MalformedError(f"'{_printable(name)}' is a link to elsewhere")
        return _printable(name), self.number(entry + 8, 8)

    def array(self, name: str, address: int) -> Array:
        """The array at ``address``, when it is plain and lies within the file."""
        try:
            found = dict(self.messages(address, _OF_ARRAYS))
            space, spelled, layout = found[_SPACE], found[_TYPE], found[_LAYOUT]
        except (KeyError, MalformedError):
            raise MalformedError(f"'{name}' is not a plain array") from None
        dtype = next((one for code, one in _TYPES.items() if spelled.startswith(code)), None)
        rank = space[1] if len(space) > 1 else 0
        plain = space[:1] == b"\1" and rank in (1, 2) and layout[:2] == b"\3\1"
        if dtype is None or not plain:
            raise MalformedError(f"'{name}' is not a plain array of a type that shards have")
        shape = tuple(_number(space, 8 + 8 * axis, 8) for axis in range(rank))
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if max(shape) > _WIDEST:
            raise MalformedError(f"'{name}' claims more bytes than the file has")
        start = _number(layout, 2, 8) if size else 0
        if start + size > len(self.image) or size > _number(layout, 10, 8):
            raise MalformedError(f"'{name}' claims more bytes than the file has")
        return Array(dtype, shape, start, size)


_HEAD = ((0, 2), (2, 2), (4, 1))  # place and bytes of a message's kind, length and flags


def _number(data: bytes, start: int, size: int) -> int:
    if start + size > len(data):
        raise MalformedError("an object of it has a broken header")
    return int.from_bytes(data[start : start + size], "little")


def _printable(name: bytes) -> str:
    return ascii(name.decode("latin-1"))[1:-1]


def _attribute(body: bytes) -> tuple[str, int | bytes]:
    """Name and value of an attribute: a whole number, or text of fixed length."""
    name_size, type_size, space_size = (_number(body, at, 2) for at in (2, 4, 6))
    name_end = 8 + _even(name_size)
    space = name_end + _even(type_size)
    data = body[space + _even(space_size) :]
    name, spelled = body[8 : 8 + name_size].rstrip(b"\0"), body[name_end:space]
    size = _number(spelled, 4, 4)
    kind = spelled[0] & 15
    scalar = body[:1] == b"\1" and body[space : space + 2] == b"\1\0"
    if not scalar or kind not in (0, 3) or size > len(data) or (kind == 0 and size > 8):
        raise MalformedError(f"its attribute '{_printable(name)}' is not of a shard's")
    if kind == 3:
        return _printable(name), data[:size].rstrip(b"\0")
    signed = bool(spelled[1] & 8)
    return _printable(name), int.from_bytes(data[:size], "little", signed=signed)


def _even(size: int) -> int:
    """Up to a multiple of 8."""
    return (size + 7) // 8 * 8


def _refuse_overlaps(arrays: dict[str, Array]) -> None:
    lying = sorted((one.start, one.start + one.size, name) for name, one in arrays.items())
    lying = [one for one in lying if one[0] < one[1]]
    for (_, end, name), (start, _, other) in zip(lying, lying[1:], strict=False):
        if start < end:
            raise MalformedError(f"'{name}' and '{other}' lie in the same place")
