"""The gallery of a cache and a head, as it is searched: exactly, and without loading the cache.

A folder of write-once pieces and ``gallery.json``, which names those that hold and the clips in
them that are gone; it is replaced whole, so whatever is interrupted, the gallery before it
answers. ``gallery_refresh.py`` makes it and adds to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from c4c.core.errors import C4CError, Damaged
from c4c.core.files import file_sha256
from c4c.core.inside import refuse_links
from c4c.core.limits import MOST_HITS
from c4c.kernels import topk_similarity
from c4c.retrieval.gallery_piece import Piece, open_piece

STATE = "gallery.json"
MOST = MOST_HITS  # rows of a piece that a search can ask for
_BLOCK = 16384
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Held:
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
class State:
    """What ``gallery.json`` holds: whose it is, of which state of the cache, and its pieces.

    ``complete`` is whether the cache was; galleries made before that was kept do not know.
    """

    key: str
    stamp: str
    pieces: tuple[Held, ...] = ()
    complete: bool | None = None
    sha256: str = ""


class Gallery:
    """A gallery as it was opened, of one state of its cache.

    Attributes:
        folder: where it lies.
        state: what ``gallery.json`` holds.
        pieces: its pieces.
        splits: the split of each.
        gone: of each, the clips that are not in the cache any more, or ``None``.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder, self.state = folder, state
        self.pieces: list[Piece] = []
        self.splits = [held.split for held in state.pieces]
        self.gone: list[Mask | None] = []
        for held in state.pieces:
            refuse_links(folder / held.name, folder)
            piece = open_piece(folder / held.name, held.size)
            if len(piece) != held.clips or any(not 0 <= row < len(piece) for row in held.gone):
                raise Damaged(f"{folder / held.name} does not fit {STATE}.")
            gone = np.zeros(len(piece), np.bool_)
            gone[list(held.gone)] = True
            self.pieces.append(piece)
            self.gone.append(gone if held.gone else None)

    def __len__(self) -> int:
        """Clips that are searched."""
        return sum(held.clips - len(held.gone) for held in self.state.pieces)

    @property
    def windows(self) -> int:
        """Windows in all pieces."""
        return sum(len(piece.windows) for piece in self.pieces)

    @property
    def nbytes(self) -> int:
        """Bytes of its pieces."""
        return sum(held.size for held in self.state.pieces)

    def is_of(self, stamp: str) -> bool:
        """Whether it holds the clips of that state of the cache (``cache_stamp``)."""
        return self.state.stamp == stamp

    def nearest(
        self,
        kind: str,
        text: Tensor,
        count: int,
        allowed: list[Mask | None] | None = None,
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
        found, whole = [], []
        for number, piece in enumerate(self.pieces):
            mask = _both(allowed[number] if allowed else None, _not(self.gone[number]))
            if mask is None:
                whole.append(number)
            elif mask.any():
                found.append(_search_some(piece, kind, text, count, mask, number))
        if whole:
            found.append(self._search_whole(whole, kind, text, count))
        if not found:
            return torch.zeros(len(text), 0), *(torch.zeros(len(text), 0, dtype=torch.int64),) * 2
        return found[0] if len(found) == 1 else merged(found, count)

    def _search_whole(
        self, numbers: list[int], kind: str, text: Tensor, count: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best rows of some pieces, together; of windows by their int8 companions."""
        held = [self.pieces[number] for number in numbers]
        sizes = [len(piece.windows if kind == "windows" else piece.clips) for piece in held]
        ends = torch.tensor(sizes).cumsum(0)
        count = min(count, max(1, sum(sizes)))
        if kind == "windows":
            scores, places = topk_similarity(text, [piece.searchable for piece in held], count)
        else:
            scores, places = topk_similarity(text, (piece.clips for piece in held), count)
        at = torch.searchsorted(ends, places, right=True).clamp(max=len(held) - 1)
        rows_in = places - (ends - torch.tensor(sizes))[at]
        missing = places < 0
        return (
            scores,
            torch.tensor(numbers)[at].masked_fill(missing, -1),
            rows_in.masked_fill(missing, -1),
        )

    def unrelated(self, kind: str) -> npt.NDArray[np.float32]:
        """The best score of each unrelated sentence on the whole gallery, float32 [S]."""
        rows = [piece.unrelated[("clips", "windows").index(kind)] for piece in self.pieces]
        if not rows or len({len(row) for row in rows}) > 1:
            return np.zeros(0, np.float32)
        return np.maximum.reduce(rows)  # type: ignore[no-any-return]

    def damage(self) -> Iterator[str]:
        """What is not as it was written, a line each; reads every byte."""
        for held in self.state.pieces:
            if file_sha256(self.folder / held.name) != held.sha256:
                yield f"{self.folder / held.name} differs from its checksum"


def _not(mask: Mask | None) -> Mask | None:
    return None if mask is None else ~mask


def _both(one: Mask | None, two: Mask | None) -> Mask | None:
    if one is None or two is None:
        return two if one is None else one
    both: Mask = one & two
    return both


def merged(
    found: Sequence[tuple[Tensor, Tensor, Tensor]], count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best of what several searches found; of equal scores the earlier one stays first."""
    scores, pieces, rows = (torch.cat(part, 1) for part in zip(*found, strict=True))
    best, order = scores.sort(dim=1, descending=True, stable=True)
    order = order[:, :count]
    return best[:, :count], pieces.gather(1, order), rows.gather(1, order)


def _search_some(
    piece: Piece, kind: str, text: Tensor, count: int, mask: Mask, number: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best rows of some clips of a piece, with its number."""
    held = piece.windows if kind == "windows" else piece.clips
    chosen = torch.from_numpy(piece.rows_of(mask) if kind == "windows" else mask.nonzero()[0])
    blocks = (held[some] for some in torch.split(chosen, _BLOCK))
    scores, places = topk_similarity(text, blocks, min(count, max(1, len(chosen))))
    missing = places < 0
    rows = chosen[places.clamp(0)] if len(chosen) else places
    return (
        scores,
        torch.full_like(places, number).masked_fill(missing, -1),
        rows.masked_fill(missing, -1),
    )
