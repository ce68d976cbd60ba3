"""Pieces of a shard that is not complete yet: what an extraction keeps when it is stopped.

A piece is a shard file (``shard.py``) with some clips of one part of the plan, in the part's
order. It lies in ``pieces/SPLIT/PART/`` under a name that says which clips, and how many frames
were encoded before its end: ``FIRST-LAST-FRAMES.h5``. Pieces that follow each other from the
part's first clip on are as good as having done that work; the whole shard replaces them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from c4c.cache.identity import Owner
from c4c.cache.plan import Manifest, Part, safe_name
from c4c.cache.shard import Shard
from c4c.cache.stored import read_shard, write_shard
from c4c.core.errors import C4CError, Damaged
from c4c.core.inside import list_folder, refuse_links

FOLDER = "pieces"
_NAME = re.compile(r"([0-9]{1,9})-([0-9]{1,9})-([0-9]{1,15})\.h5")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some clips of a part, which are done.

    Attributes:
        path: the file.
        first: place in the part of its first clip; ``last`` the place behind its last one.
        frames: frames encoded of the part up to its end, on which the next clip's batch depends.
        shard: its rows.
    """

    path: Path
    first: int
    last: int
    frames: int
    shard: Shard


def pieces_folder(cache: Path, manifest: Manifest, part: Part) -> Path:
    """Where the pieces of a part lie."""
    return cache / FOLDER / safe_name(manifest.split) / part.name.removesuffix(".h5")


def write_piece(folder: Path, first: int, frames: int, shard: Shard, owner: Owner) -> None:
    """Commit a piece, as a shard is committed.

    Args:
        folder: of the part.
        first: place in the part of its first clip.
        frames: encoded of the part so far.
        shard: its rows.
        owner: the cache.

    Raises:
        C4CError: it cannot be written.
    """
    last = first + len(shard.status)
    write_shard(folder / f"{first:06d}-{last:06d}-{frames}.h5", shard, owner)


def pieces_of(folder: Path, ids: Sequence[str], owner: Owner) -> list[Piece]:
    """The pieces that follow each other from the first of a part's clips on.

    Several runs may have left pieces that overlap: of those that begin at one clip the longest
    is taken. A piece that is damaged, or of other clips, is as good as none.

    Raises:
        Misplaced: a link or another cache's file stands there.
        Unreadable: the folder cannot be listed now.
    """
    refuse_links(folder, owner.path)
    named = [found for entry in list_folder(folder) if (found := _NAME.fullmatch(entry.name))]
    spans = sorted((int(m[1]), -int(m[2]), int(m[3]), m.string) for m in named)
    pieces: list[Piece] = []
    reached = 0
    for first, minus_last, frames, name in spans:
        if first != reached:
            continue
        piece = _read(folder / name, ids[first:-minus_last], owner)
        if piece is not None:
            reached = -minus_last
            pieces.append(Piece(folder / name, first, reached, frames, piece))
    return pieces


def _read(path: Path, ids: Sequence[str], owner: Owner) -> Shard | None:
    try:
        shard = read_shard(path, owner, whole=True)
    except Damaged:
        return None
    except C4CError:
        if os.path.lexists(path):
            raise
        return None  # the whole shard has come in its place
    return shard if ids and shard.texts.get("ids") == list(ids) else None


def remove_pieces(folder: Path) -> None:
    """Remove the pieces of a part whose shard is complete."""
    for entry in list_folder(folder):
        if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            (folder / entry.name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files stay
        folder.rmdir()
