"""The gallery of a cache and a head: made once, added to, and searched without loading the cache.

A folder of write-once pieces and ``gallery.json``, which names those that hold and the clips in
them that are gone; it is replaced whole, so whatever is interrupted, the gallery before it
answers. It lies in the cache (``gallery/<key>``), or in the user's own cache folder where the
cache cannot be written. The key is a digest of the cache's identity, the head, the frames that it
sees and the windows: another of these is another gallery.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from c4c.core.errors import C4CError, Damaged
from c4c.core.files import file_sha256, json_bytes, write_atomic, write_once
from c4c.core.home import own_folder
from c4c.core.inside import is_there, refuse_links, regular_files
from c4c.core.lock import one_writer
from c4c.core.progress import Progress, say
from c4c.core.schema import read_record, sealed
from c4c.core.tensors import state_sha256
from c4c.kernels import topk_similarity
from c4c.retrieval.gallery_build import PIECE_CLIPS, make_piece, mark_of, portions
from c4c.retrieval.gallery_piece import Piece, open_piece

if TYPE_CHECKING:
    from c4c.cache.open import Cache, ClipFeatures
    from c4c.heads.base import Head
    from c4c.retrieval.ranking import View
    from c4c.retrieval.windows import Windows

SCHEMA = 1
_FOLDER, _STATE = "gallery", "gallery.json"
_BLOCK = 16384
MOST = 1024  # rows of a piece that a search can ask for


@dataclass(frozen=True, slots=True)
class _Held:
    """A piece that belongs to the gallery: its file, what that must be, and clips now gone."""

    name: str
    size: int
    sha256: str
    split: str
    clips: int
    gone: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if os.path.basename(self.name) != self.name or not self.name.startswith("piece-"):
            raise C4CError(f"it names a piece '{self.name}', which no c4c wrote.")


@dataclass(frozen=True, slots=True)
class _State:
    """What ``gallery.json`` holds: whose it is, of which state of the cache, and its pieces."""

    key: str
    stamp: str
    pieces: tuple[_Held, ...] = ()
    sha256: str = field(default="")


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
            "head": self.head.name if self.head.loose else "meanP",
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
    for folder in ("manifests", "shards"):
        for path in regular_files(cache.path / folder):
            if folder == "shards" and path.parent.name != "clips":
                continue
            about = os.lstat(path)
            line = f"{path.relative_to(cache.path)} {about.st_size} {about.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


class Gallery:
    """A gallery as it was opened, of one state of its cache.

    Attributes:
        folder: where it lies.
        pieces: its pieces.
        splits: the split of each.
        gone: of each, the clips that are not in the cache any more, or ``None``.
    """

    def __init__(self, folder: Path, state: _State) -> None:
        self.folder, self._state = folder, state
        self.pieces: list[Piece] = []
        self.splits = [held.split for held in state.pieces]
        self.gone: list[np.ndarray[tuple[int], np.dtype[np.bool_]] | None] = []
        for held in state.pieces:
            refuse_links(folder / held.name, folder)
            piece = open_piece(folder / held.name, held.size)
            if len(piece) != held.clips or any(not 0 <= row < len(piece) for row in held.gone):
                raise Damaged(f"{folder / held.name} does not fit {_STATE}.")
            gone = np.zeros(len(piece), np.bool_)
            gone[list(held.gone)] = True
            self.pieces.append(piece)
            self.gone.append(gone if held.gone else None)

    def __len__(self) -> int:
        """Clips that are searched."""
        return sum(held.clips - len(held.gone) for held in self._state.pieces)

    @property
    def windows(self) -> int:
        """Windows in all pieces."""
        return sum(len(piece.windows) for piece in self.pieces)

    @property
    def nbytes(self) -> int:
        """Bytes of its pieces."""
        return sum(held.size for held in self._state.pieces)

    def is_of(self, stamp: str) -> bool:
        """Whether it holds the clips of that state of the cache (``cache_stamp``)."""
        return self._state.stamp == stamp

    def nearest(
        self,
        kind: str,
        text: Tensor,
        count: int,
        allowed: list[np.ndarray | None] | None = None,  # type: ignore[type-arg]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The rows that are nearest to some vectors, exactly, over all pieces.

        Args:
            kind: ``clips`` or ``windows``.
            text: unit vectors [Q, D].
            count: rows a query.
            allowed: of each piece the clips that may answer, bool [N]; ``None``: all.

        Returns:
            Scores float32 [Q, n], pieces and rows in them int64 [Q, n], best first; n is at most
            ``count``, and where a piece is -1 there is no more.
        """
        count = min(count, MOST)
        found = []
        for number, piece in enumerate(self.pieces):
            mask = _both(allowed[number] if allowed else None, _not(self.gone[number]))
            if mask is not None and not mask.any():
                continue
            found.append(_search(piece, kind, text, count, mask, number))
        if not found:
            return torch.zeros(len(text), 0), *(torch.zeros(len(text), 0, dtype=torch.int64),) * 2
        scores, pieces, rows = (torch.cat(part, 1) for part in zip(*found, strict=True))
        best, order = scores.topk(min(count, scores.shape[1]), dim=1)
        return best, pieces.gather(1, order), rows.gather(1, order)

    def unrelated(self, kind: str) -> np.ndarray:  # type: ignore[type-arg]
        """The best score of each unrelated sentence on the whole gallery, float32 [S]."""
        rows = [piece.unrelated[("clips", "windows").index(kind)] for piece in self.pieces]
        if not rows or len({len(row) for row in rows}) > 1:
            return np.zeros(0, np.float32)
        return np.maximum.reduce(rows)  # type: ignore[no-any-return]

    def damage(self) -> Iterator[str]:
        """What is not as it was written, a line each; reads every byte."""
        for held in self._state.pieces:
            if file_sha256(self.folder / held.name) != held.sha256:
                yield f"{self.folder / held.name} differs from its checksum"


def _not(mask: np.ndarray | None) -> np.ndarray | None:  # type: ignore[type-arg]
    return None if mask is None else ~mask


def _both(one: np.ndarray | None, two: np.ndarray | None) -> np.ndarray | None:  # type: ignore[type-arg]
    if one is None or two is None:
        return two if one is None else one
    both: np.ndarray = one & two  # type: ignore[type-arg]
    return both


def _search(
    piece: Piece,
    kind: str,
    text: Tensor,
    count: int,
    mask: np.ndarray | None,
    number: int,  # type: ignore[type-arg]
) -> tuple[Tensor, Tensor, Tensor]:
    """The best rows of one piece, with its number; without a mask by its int8 companion."""
    if mask is None:
        rows = piece.searchable if kind == "windows" else piece.clips
        scores, places = topk_similarity(text, rows, min(count, len(piece.windows)))
    else:
        held = piece.windows if kind == "windows" else piece.clips
        chosen = torch.from_numpy(piece.rows_of(mask) if kind == "windows" else mask.nonzero()[0])
        blocks = (held[some] for some in chosen.split(_BLOCK))
        scores, places = topk_similarity(text, blocks, min(count, max(1, len(chosen))))
        places = torch.where(places < 0, -1, chosen[places.clamp(0)] if len(chosen) else places)
    return scores, torch.where(places < 0, -1, number), places


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
    inside = maker.cache.path / _FOLDER / key[:32]
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
    own = own_folder("XDG_CACHE_HOME", ".cache")
    name = hashlib.sha256(f"{key}\n{os.path.realpath(cache.path)}".encode()).hexdigest()
    return [own / _FOLDER / name[:32]] if own else []


def _standing(folder: Path, key: str) -> Gallery | None:
    """The gallery in a folder; ``None`` when there is none that can be used."""
    try:
        if not is_there(folder / _STATE, folder.parent.parent):
            return None
        state = read_record(folder / _STATE, _State, SCHEMA)
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
        held = [] if compact or before is None else _still_held(before, maker)
        covered = {split: _marks(before, held, split) for split in maker.cache.splits}
        todo = {
            split: [row for row in range(len(clips)) if mark_of(clips, row) not in covered[split]]
            for split, clips in _splits(maker)
        }
        held += _made(folder, maker, todo, encode)
        state = _State(key, stamp, tuple(held))
        content = {"schema": SCHEMA, **asdict(state)}
        write_atomic(folder / _STATE, json_bytes(sealed(content)))
        _sweep(folder, {one.name for one in held})
        return Gallery(folder, state)


def _splits(maker: Maker) -> Iterator[tuple[str, ClipFeatures]]:
    for split in maker.cache.splits:
        yield split, maker.cache.clips(split)


def _still_held(before: Gallery, maker: Maker) -> list[_Held]:
    """The pieces that still hold clips of the cache, with the clips that are gone."""
    now = {
        split: {mark_of(clips, row) for row in range(len(clips))} for split, clips in _splits(maker)
    }
    kept = []
    for held, piece in zip(before._state.pieces, before.pieces, strict=True):
        marks = [mark.tobytes() for mark in piece.marks]
        gone = [row for row, one in enumerate(marks) if one not in now.get(held.split, set())]
        if len(gone) < len(marks):
            kept.append(_Held(held.name, held.size, held.sha256, held.split, held.clips, (*gone,)))
    return kept


def _marks(before: Gallery | None, kept: list[_Held], split: str) -> set[bytes]:
    """Marks of a split's clips that pieces hold already."""
    if before is None:
        return set()
    names = {one.name for one in kept if one.split == split}
    return {
        mark.tobytes()
        for held, piece in zip(before._state.pieces, before.pieces, strict=True)
        if held.name in names
        for mark in piece.marks
    }


def _made(
    folder: Path, maker: Maker, todo: dict[str, list[int]], encode: Callable[[], Tensor | None]
) -> list[_Held]:
    """Pieces for clips that none holds yet, written."""
    total = sum(map(len, todo.values()))
    if not total:
        return []
    unrelated, made = encode(), []
    with Progress("index", total) as progress:
        for split, rows in todo.items():
            clips = maker.cache.clips(split)
            for portion in portions(clips, rows):
                data = make_piece(
                    maker.head, clips, portion, maker.view, maker.windows, unrelated, progress.step
                )
                made.append(_written(folder, data, split, len(portion)))
    return made


def _written(folder: Path, data: bytes, split: str, clips: int) -> _Held:
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
    return _Held(name, len(data), digest, split, clips)


def _sweep(folder: Path, held: set[str]) -> None:
    """Remove pieces that no state names: of before, or of a run that was killed."""
    for path in regular_files(folder, ".safetensors"):
        if path.name not in held:
            path.unlink(missing_ok=True)


__all__ = ["PIECE_CLIPS", "Gallery", "Maker", "cache_stamp", "open_gallery", "refresh"]
