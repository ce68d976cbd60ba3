"""Re-ranking against hubs: clips that are near every sentence are made to count for less.

Both ways divide a score by what the whole of some queries gives the same gallery item. *Dual
softmax* takes the queries that are being evaluated, so it needs all of them and profits from
each having one answer: figures are labelled. *QB-Norm* takes a bank of training queries, so it
serves one live query just as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from c4c.retrieval.metrics import Ranks, group_maximum, rank_targets

# The inverse temperature of QB-Norm for cosines of CLIP features (its authors' choice), and of
# dual softmax (CLIP's own logit scale).
SCALES = {"qbnorm": 20.0, "dual-softmax": 100.0}
# A larger bank changes little and costs its product with the gallery.
BANK = 10_000
# Scores held at once, float64: 64 MB.
BLOCK = 8 << 20
# Equal vectors must tie however a product was blocked: cosines are compared to 9 decimals.
DECIMALS = 9
Scores = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Weights:
    """What a gallery's scores are re-weighted with.

    Attributes:
        kind: ``qbnorm`` or ``dual-softmax``.
        log_mass: float64 [N], log of the sum over the bank of exp(scale * cosine) of each item.
        hubs: bool [N], items that are the first answer of some query of the bank.
    """

    kind: str
    log_mass: Scores
    hubs: npt.NDArray[np.bool_]

    @property
    def scale(self) -> float:
        """The inverse temperature."""
        return SCALES[self.kind]

    def apply(self, cosines: Scores) -> Scores:
        """Scores [rows, N] whose order within a row is the re-ranked one.

        QB-Norm changes only the rows whose first answer is a hub (its dynamic inverted softmax).
        """
        weighted: Scores = self.scale * cosines - self.log_mass
        if self.kind == "dual-softmax":
            return np.asarray(cosines * np.exp(weighted))
        touched = self.hubs[cosines.argmax(axis=1)]
        return np.where(touched[:, None], weighted, cosines)


def weigh(kind: str, bank: Tensor, gallery: Tensor) -> Weights:
    """Weights of a gallery, in one pass over blocks of the bank.

    Args:
        kind: ``qbnorm`` or ``dual-softmax``.
        bank: unit vectors of queries [B, D].
        gallery: unit vectors of what is looked for [N, D].
    """
    mass = np.zeros(len(gallery))
    hubs = np.zeros(len(gallery), np.bool_)
    scale = SCALES[kind]
    for _, cosines in blocks(bank, gallery):
        mass += np.exp(scale * (cosines - 1)).sum(axis=0)
        hubs[cosines.argmax(axis=1)] = True
    with np.errstate(divide="ignore"):
        return Weights(kind, np.log(mass) + scale, hubs)


def blocks(
    queries: Tensor, gallery: Tensor, decimals: int = DECIMALS
) -> Iterator[tuple[Indices, Scores]]:
    """(places, cosines [rows, N] to so many decimals) of the queries, a block at a time."""
    step = max(1, BLOCK // max(1, len(gallery)))
    wide = gallery.double()
    for low in range(0, len(queries), step):
        rows = queries[low : low + step].double()
        places = np.arange(low, low + len(rows))
        yield places, (rows @ wide.T).cpu().numpy().round(decimals)


def score_blocks(
    queries: Tensor, gallery: Tensor, weights: Weights | None, decimals: int = DECIMALS
) -> Iterator[tuple[Indices, Scores]]:
    """``blocks``, re-weighted where there are weights."""
    for places, cosines in blocks(queries, gallery, decimals):
        yield places, weights.apply(cosines) if weights else cosines


def ranks_of(scored: Iterator[tuple[Indices, Scores]], targets: Indices) -> Ranks:
    """Rank each query's right item, block after block."""
    return _joined(rank_targets(scores, targets[places]) for places, scores in scored)


def group_ranks(scored: Iterator[tuple[Indices, Scores]], own: Indices) -> Ranks:
    """Rank each clip's group of captions among the groups, block after block of clips.

    Args:
        scored: scores of the captioned clips against all captions, in the order of the clips.
        own: int [captions], each caption's clip.
    """
    return _joined(
        rank_targets(group_maximum(scores.T, own)[0].T, places) for places, scores in scored
    )


def _joined(parts: Any) -> Ranks:
    columns = zip(*((part.ahead, part.ties, part.places) for part in parts), strict=True)
    return Ranks(*map(np.concatenate, columns))


def search_reranked(
    queries: Tensor,
    gallery: Tensor,
    weights: Weights,
    k: int,
    topk: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]],
) -> Tensor:
    """Places [Q, k] of the re-ranked answers, without a score matrix.

    A weighted score is an inner product with one more channel: the item's weight times one.
    Queries whose first answer is no hub have a zero there, and keep their plain order.
    """
    _, first = topk(queries, gallery, 1)
    touched = torch.from_numpy(weights.hubs)[first[:, 0].cpu()].to(queries)
    shift = torch.from_numpy(-weights.log_mass / weights.scale).to(gallery)
    wide = torch.cat((gallery, shift[:, None]), dim=1)
    _, places = topk(torch.cat((queries, touched[:, None]), dim=1), wide, k)
    return places
