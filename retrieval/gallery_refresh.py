"""Making a gallery, and bringing it to the present state of its cache.

It lies in the cache (``gallery/<key>``), or in the user's own cache folder where the cache cannot
be written. The key is a digest of the cache's identity, the head, the frames that it sees and the
windows: another of these is another gallery.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from c4c.cache.prune import GALLERY, own_galleries
from c4c.core.errors import C4CError
from c4c.core.files import file_sha256, json_bytes, write_atomic, write_once
from c4c.core.inside import is_there, regular_files
from c4c.core.lock import one_writer
from c4c.core.progress import Progress, say
from c4c.core.schema import read_record, sealed
from c4c.core.tensors import state_sha256
from c4c.heads import MEAN
from c4c.retrieval.gallery import STATE, Gallery, Held, State
from c4c.retrieval.gallery_build import make_piece, mark_of, portions

if TYPE_CHECKING:
    from c4c.cache.open import Cache, ClipFeatures
    from c4c.core.sampling import View
    from c4c.heads.base import Head
    from c4c.retrieval.gallery_piece import Piece
    from c4c.retrieval.windows import Windows

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Maker:
    """What makes a gallery of a cache.

    Attributes:
        cache: the cache.
        head: a loose or a tight head (which looks at what mean pooling finds).
        view: the frames that it sees.
        windows: how clips are cut.
    """

    cache: Cache
    head: Head
    view: View
    windows: Windows

    def key(self) -> str:
        """A digest of everything that a gallery depends on besides the cache's clips."""
        state = {k: v for k, v in self.head.state_dict().items() if k != "logit_scale"}
        made_of = {
            "schema": SCHEMA,
            "cache": self.cache.owner.identity,
            "head": self.head.name if self.head.loose else MEAN,
            "parameters": state_sha256(state if self.head.loose else _projections(state)),
            "view": asdict(self.view),
            "windows": asdict(self.windows),
        }
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _projections(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name.startswith("projections.")}


def cache_stamp(cache: Cache) -> str:
    """A digest of the names, sizes and times of a cache's plans and shards of clips.

    While it is the same, so are the clips; it is made without reading any file.
    """
    digest = hashlib.sha256()
    for folder in ("manifests", "shards", "pieces"):
        for path in regular_files(cache.path / folder):
            if folder == "shards" and path.parent.name != "clips":
                continue
            about = os.lstat(path)
            line = f"{path.relative_to(cache.path)} {about.st_size} {about.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def open_gallery(maker: Maker, encode: Callable[[], Tensor | None]) -> Gallery:
    """The gallery of a cache as it is now: the one that stands, made or added to if need be.

    Args:
        maker: of what.
        encode: gives vectors of unrelated sentences [S, D], or ``None``; asked only when
            something is made.

    Raises:
        C4CError: the cache cannot be read, or the gallery cannot be written anywhere.
    """
    key, stamp = maker.key(), cache_stamp(maker.cache)
    inside = maker.cache.path / GALLERY / key[:32]
    folders = [inside, *_own_place(maker.cache, key)]
    for folder in folders:
        gallery = _standing(folder, key)
        if gallery is not None and gallery.is_of(stamp):
            return gallery
    for folder in folders:
        if folder is inside and not os.access(maker.cache.path, os.W_OK):
            continue
        if folder is not inside:
            say(f"{maker.cache.path} cannot be written: its gallery goes to {folder}")
        return refresh(folder, maker, encode)
    raise C4CError(f"{maker.cache.path} cannot be written, and there is no home for its gallery.")


def _own_place(cache: Cache, key: str) -> list[Path]:
    """Where a gallery goes whose cache cannot be written: caches of the same identity differ."""
    own = own_galleries(cache.path)
    return [own / key[:32]] if own else []


def _standing(folder: Path, key: str) -> Gallery | None:
    """The gallery in a folder; ``None`` when there is none that can be used."""
    try:
        if not is_there(folder / STATE, folder.parent.parent):
            return None
        state = read_record(folder / STATE, State, SCHEMA)
        return Gallery(folder, state) if state.key == key else None
    except C4CError as error:  # what is derived is made again
        say(f"{error} It is made again.")
        return None


def refresh(
    folder: Path,
    maker: Maker,
    encode: Callable[[], Tensor | None],
    compact: bool = False,
) -> Gallery:
    """Bring a gallery to the cache's present state: new clips are added, others marked as gone.

    Args:
        folder: the gallery's.
        maker: of what.
        encode: see ``open_gallery``.
        compact: make everything anew, in as few pieces as hold it.

    Raises:
        C4CError: the cache cannot be read, or the folder cannot be written.
    """
    with one_writer(folder, wait=True):
        key, stamp = maker.key(), cache_stamp(maker.cache)
        before = _standing(folder, key)
        if before is not None and before.is_of(stamp) and not compact:
            return before  # another process was quicker
        marks = {
            split: [mark_of(clips, row) for row in range(len(clips))]
            for split, clips in _splits(maker)
        }
        held = [] if compact or before is None else _still_held(before, marks)
        todo = {}
        for split, own in marks.items():
            covered = _covered(before, held, split)
            todo[split] = [row for row, mark in enumerate(own) if mark not in covered]
        held += _made(folder, maker, todo, encode)
        state = State(key, stamp, tuple(held), maker.cache.complete)
        content = {"schema": SCHEMA, **asdict(state)}
        write_atomic(folder / STATE, json_bytes(sealed(content)))
        _sweep(folder, {one.name for one in held})
        return Gallery(folder, state)


def _splits(maker: Maker) -> Iterator[tuple[str, ClipFeatures]]:
    for split in maker.cache.splits:
        yield split, maker.cache.clips(split, incomplete=True)


def _still_held(before: Gallery, marks: Mapping[str, list[bytes]]) -> list[Held]:
    """The pieces that still hold clips of the cache, with the clips that are gone."""
    now = {split: set(own) for split, own in marks.items()}
    kept = []
    for held, piece in zip(before.state.pieces, before.pieces, strict=True):
        present = now.get(held.split, set())
        gone = [row for row, mark in enumerate(_marks(piece)) if mark not in present]
        if len(gone) < len(piece):
            kept.append(replace(held, gone=tuple(gone)))
    return kept


def _covered(before: Gallery | None, kept: list[Held], split: str) -> set[bytes]:
    """Marks of a split's clips that pieces hold already."""
    if before is None:
        return set()
    names = {one.name for one in kept if one.split == split}
    return {
        mark
        for held, piece in zip(before.state.pieces, before.pieces, strict=True)
        if held.name in names
        for mark in _marks(piece)
    }


def _marks(piece: Piece) -> list[bytes]:
    marks: list[bytes] = np.ascontiguousarray(piece.marks).view("V16")[:, 0].tolist()
    return marks


def _made(
    folder: Path, maker: Maker, todo: dict[str, list[int]], encode: Callable[[], Tensor | None]
) -> list[Held]:
    """Pieces for clips that none holds yet, written."""
    total = sum(map(len, todo.values()))
    if not total:
        return []
    unrelated, made = encode(), []
    with Progress("index", total) as progress:
        for split, rows in todo.items():
            clips = maker.cache.clips(split, incomplete=True)
            for portion in portions(clips, rows):
                data = make_piece(
                    maker.head, clips, portion, maker.view, maker.windows, unrelated, progress.step
                )
                made.append(_written(folder, data, split, len(portion)))
    return made


def _written(folder: Path, data: bytes, split: str, clips: int) -> Held:
    digest = hashlib.sha256(data).hexdigest()
    name = f"piece-{digest[:32]}.safetensors"

    def check(path: Path) -> None:
        if file_sha256(path) != digest:
            raise C4CError(f"What was written to {path} reads back otherwise; is the disk ok?")

    if not write_once(folder / name, data, folder / "tmp", check):
        try:
            check(folder / name)
        except C4CError:  # what stands there was damaged
            (folder / name).unlink(missing_ok=True)
            write_once(folder / name, data, folder / "tmp", check)
    return Held(name, len(data), digest, split, clips)


def _sweep(folder: Path, held: set[str]) -> None:
    """Remove pieces that no state names: of before, or of a run that was killed."""
    for path in regular_files(folder, ".safetensors"):
        if path.name not in held:
            path.unlink(missing_ok=True)
