"""Shards on disk: committed whole and verified, and distrusted when they are read.

Opening a shard checks that it is a regular file of sane size, its tables (everything but the
features) against their digest, and that it belongs to the cache, before its HDF5 is parsed.
``shard_damage`` checks every byte.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from c4c.cache.findings import Finding
from c4c.cache.hdf5 import Image, MalformedError
from c4c.cache.identity import UNBOUND, Owner
from c4c.cache.mapping import map_file
from c4c.cache.seal import End, check_tables, is_whole, read_end
from c4c.cache.shard import SCHEMA, Shard, pack_shard, parse_shard
from c4c.core.errors import C4CError, Damaged, Misplaced, NewerVersion, Unreadable
from c4c.core.files import write_once
from c4c.core.inside import is_there, open_regular, refuse_links


def write_shard(path: Path, shard: Shard, owner: Owner) -> None:
    """Commit ``shard`` under ``path``: write aside, sync, verify, link, sync the folder.

    When another process committed the same name first, its file stays and this one goes; if that
    one is removed at once, as pieces are when their shard is complete, this one is put there.

    Args:
        path: the final name, below the owner's folder.
        shard: the rows.
        owner: the cache that it belongs to.

    Raises:
        C4CError: it cannot be written (disk full, read-only), or reads back otherwise.
        Misplaced: a shard of another cache stands there.
    """
    image = pack_shard(shard, owner.mark(path))
    while not write_once(path, image, owner.path / "tmp", check=_insist):
        try:
            read_shard(path, owner)
        except C4CError:
            if os.path.lexists(path):
                raise
        else:
            return


def _insist(path: Path) -> None:
    found = shard_damage(path)
    if found:
        raise C4CError(f"What was written reads back otherwise; is the disk ok? {found[0]}")


def read_shard(path: Path, owner: Owner | None = None, whole: bool = False) -> Shard:
    """Open a shard; features are mapped, not read.

    Args:
        path: the file.
        owner: the cache that it must belong to; one that says nothing of its cache may be read.
        whole: compare every byte with the shard's digest first, not the tables alone.

    Raises:
        C4CError: it is missing.
        Unreadable: it cannot be read now.
        NewerVersion: it is of a later c4c.
        Misplaced: it belongs to another cache, or is no regular file.
        Damaged: it is not HDF5, cut short, changed, or made to mislead.
    """
    with _opened(path, owner) as (handle, end):
        check_tables(handle, end)
        _check_owner(path, end, owner)
        if whole and end.closed and not is_whole(handle, end):
            raise Damaged("its bytes differ from their checksum")
        shard, agree = parse_shard(map_file(handle, end.size), end)
        if not agree:
            raise Damaged("its tables differ from their checksum")
        return shard


def holds(path: Path, owner: Owner) -> bool:
    """Whether a shard of this cache stands at ``path``; what is in it is not looked at.

    Raises:
        C4CError: as ``read_shard`` does for what cannot be one.
    """
    if not is_there(path, owner.path):
        return False
    with _opened(path, owner) as (_, end):
        mine = end.seal is None or end.seal.mark in (owner.mark(path), UNBOUND)
    if not mine:
        read_shard(path, owner)  # says what is wrong with it
    return True


def is_bound_to(path: Path, owner: Owner) -> bool:
    """Whether a shard says that it belongs to this cache, at this place.

    Raises:
        C4CError: as ``read_shard`` does for what cannot be a shard.
    """
    with _opened(path, owner) as (_, end):
        return end.seal is not None and end.seal.mark == owner.mark(path)


@contextlib.contextmanager
def _opened(path: Path, owner: Owner | None) -> Iterator[tuple[int, End]]:
    """A handle of a regular file and what stands at its end; errors become those of c4c."""
    if owner is not None:
        refuse_links(path.parent, owner.path)
    try:
        handle = open_regular(path)
        try:
            yield handle, read_end(handle)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise C4CError(f"Shard {path} is missing; run the extraction again.") from None
    except OSError as error:
        raise Unreadable.because(path, error) from None
    except NewerVersion as error:
        raise NewerVersion(f"{path}: {error}.") from None
    except (Damaged, MalformedError) as error:
        raise Damaged(
            f"{path} is not what was written: {error}. c4c cache verify --repair sets it aside, "
            "and extraction makes it anew."
        ) from None


def _check_owner(path: Path, end: End, owner: Owner | None) -> None:
    seal = end.seal
    if seal is None:
        return
    if seal.schema > SCHEMA:
        raise NewerVersion(
            f"it has schema {seal.schema}, this c4c reads up to {SCHEMA}; upgrade c4c"
        )
    if owner is not None and owner.identity and seal.bound and seal.mark != owner.mark(path):
        raise Misplaced(
            f"{path} is whole and belongs to another cache (other weights, settings or dataset) "
            f"or another name: it is not used in {owner.path}; remove it, and extract again."
        )


def shard_damage(path: Path, owner: Owner | None = None) -> list[Finding]:
    """What is wrong with a shard, a line each; none when every byte is as it was written."""
    try:
        with _opened(path, owner) as (handle, end):
            if end.closed and not is_whole(handle, end):
                return _differing(path, map_file(handle, end.size), end)
        damaged = read_shard(path, owner).damaged()
    except C4CError as error:
        return [Finding.of(error)]
    return [Finding(f"{path}: '{name}': bytes differ from their checksum") for name in damaged]


def _differing(path: Path, image: Image, end: End) -> list[Finding]:
    """Where the bytes differ that are known to; the HDF5 in them is parsed with a bound."""
    try:
        rows = parse_shard(image, end)[0].damaged()
    except (C4CError, MalformedError):
        rows = []
    if not rows:
        return [Finding(f"{path}: bytes beside those of the clips differ from their checksum")]
    return [Finding(f"{path}: '{name}': bytes differ from their checksum") for name in rows]
