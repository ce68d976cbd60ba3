"""The end of a shard: what its bytes must be, checked before anybody parses them.

Behind the HDF5 part stand a seal of 96 bytes and a trailer of 40:

    32  SHA-256 of every byte before the seal but those of the features, then of the 64 below
    32  the mark that binds the shard to its cache and its name (``identity.py``); 0 is none
    24  first byte of the features, the byte behind them, the schema: 64 bits each
     8  ``c4cbound``
    32  SHA-256 of everything before these 32 bytes
     8  ``c4cshard``

The first digest is checked at every opening, for the price of the tables; the last one by
``verify``. Shards of schema 2 have the trailer alone, those of schema 1 neither.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from c4c.cache.identity import UNBOUND
from c4c.core.errors import Damaged

MARK, BOUND = b"c4cshard", b"c4cbound"
TRAILER = 32 + len(MARK)
_SEAL = struct.Struct("<32s32sQQQ8s")
LARGEST = 1 << 36  # bytes of a shard
MOST_TABLES = 1 << 30  # bytes of a shard beside its features
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Seal:
    """A shard's seal.

    Attributes:
        digest: of everything before it but the features, and of the rest of it.
        mark: binds the shard; ``UNBOUND`` does not.
        start: the first byte of the features, ``stop`` the one behind them.
        schema: of the shard.
    """

    digest: bytes
    mark: bytes
    start: int
    stop: int
    schema: int

    @property
    def bound(self) -> bool:
        """Whether the shard says which cache it belongs to."""
        return self.mark != UNBOUND

    def packed(self) -> bytes:
        """Its 96 bytes."""
        return _SEAL.pack(self.digest, self.mark, self.start, self.stop, self.schema, BOUND)


@dataclass(frozen=True, slots=True)
class End:
    """What stands at the end of a file that is said to be a shard.

    Attributes:
        size: bytes of the file.
        closed: whether there is a trailer: a file cut short has lost it.
        seal: the seal, or ``None`` before schema 3.
    """

    size: int
    closed: bool
    seal: Seal | None

    @property
    def content(self) -> int:
        """Bytes of the HDF5 part."""
        return self.size - TRAILER * self.closed - _SEAL.size * (self.seal is not None)


def read_end(handle: int) -> End:
    """The end of an open file.

    Raises:
        Damaged: its size is no shard's.
        OSError: it cannot be read now.
    """
    size = os.fstat(handle).st_size
    if not 0 < size <= LARGEST:
        raise Damaged(f"it has {size} bytes, which no shard has")
    last = _SEAL.size + TRAILER
    found = os.pread(handle, last, max(0, size - last))
    closed = found.endswith(MARK)
    if not closed or len(found) < last or found[_SEAL.size - 8 : _SEAL.size] != BOUND:
        return End(size, closed, None)
    digest, mark, start, stop, schema, _ = _SEAL.unpack(found[: _SEAL.size])
    return End(size, closed, Seal(digest, mark, start, stop, schema))


def seal_of(image: memoryview, start: int, stop: int, mark: bytes, schema: int) -> bytes:
    """The 136 bytes that follow the HDF5 part ``image``, whose features lie where it is said."""
    rest = Seal(b"", mark, start, stop, schema).packed()[32:]
    head = hashlib.sha256(image[:start])
    head.update(image[stop:])
    head.update(rest)
    seal = head.digest() + rest
    whole = hashlib.sha256(image)
    whole.update(seal)
    return seal + whole.digest() + MARK


def check_tables(handle: int, end: End) -> None:
    """Compare everything but the features with its digest, where there is one.

    Raises:
        Damaged: they differ.
        OSError: they cannot be read now.
    """
    seal = end.seal
    if seal is None:
        return
    inside = seal.start <= seal.stop <= end.content
    if not inside or end.content - (seal.stop - seal.start) > MOST_TABLES:
        raise Damaged("its tables differ from their checksum")
    found = hashlib.sha256()
    for first, last in ((0, seal.start), (seal.stop, end.content)):
        for piece in _pieces(handle, first, last):
            found.update(piece)
    found.update(seal.packed()[32:])
    if found.digest() != seal.digest:
        raise Damaged("its tables differ from their checksum")


def is_whole(handle: int, end: End) -> bool:
    """Whether every byte is as it was written, by the trailer's digest.

    Raises:
        OSError: it cannot be read now.
    """
    found = hashlib.sha256()
    for piece in _pieces(handle, 0, end.size - TRAILER):
        found.update(piece)
    return found.digest() == os.pread(handle, 32, end.size - TRAILER)


def _pieces(handle: int, first: int, last: int) -> Iterator[bytes]:
    """Bytes ``first`` to ``last`` of a file, read and not mapped: a disk's error is an OSError."""
    while first < last:
        piece = os.pread(handle, min(_PIECE, last - first), first)
        if not piece:
            raise OSError(errno.EIO, "it became shorter while it was read")
        yield piece
        first += len(piece)
