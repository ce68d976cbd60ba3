"""Ranks of a split by a head: vectors compared in blocks, or pairs scored one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from c4c.extract.cache import ClipFeatures
from c4c.heads import build_head
from c4c.heads.base import Head
from c4c.kernels import topk_similarity
from c4c.kernels.ranks import ground_truth_counts
from c4c.progress import Progress
from c4c.records import FeatureBatch
from c4c.retrieval.metrics import Ranks, group_maximum, rank_targets, retrieval_ranks, twin_accuracy

# Scores of one block of the grouped direction, float64: 64 MB.
BLOCK = 8 << 20
# Clips encoded at once by a loose head, and paired with every caption at once by a tight one.
LOOSE_CLIPS, TIGHT_CLIPS = 256, 16
# Equal vectors must tie however a product was blocked: cosines are compared to 9 decimals.
DECIMALS = 9
# Clips kept of each text query, to be shown.
BEST = 10
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class View:
    """Which frames of a clip a head sees.

    Attributes:
        max_frames: at most; ``None`` is as many as the head takes.
        sampling: which ones when there are more.
        order: in which order.
        seed: for the order ``random``.
    """

    max_frames: int | None = None
    sampling: str = "uniform"
    order: str = "ordinary"
    seed: int = 0


def batch_of(
    clips: ClipFeatures, places: Indices | Sequence[int], view: View, device: torch.device
) -> FeatureBatch:
    """What a head sees of some clips, on its device."""
    places = np.asarray(places, np.int64)
    generator = np.random.default_rng([view.seed, *places[:1].tolist()])
    found = clips.batch(places, view.max_frames, view.sampling, view.order, generator)
    return FeatureBatch(found.features.to(device), found.lengths.to(device))


@torch.inference_mode()
def rank_split(
    head: Head,
    clips: ClipFeatures,
    text: Tensor,
    own: Indices,
    twins: Indices,
    view: View,
    shortlist: int | None,
    progress: bool,
) -> tuple[dict[str, Ranks], float | None, Indices]:
    """Ranks of both directions, the twin accuracy if there are twins, each text's first clips."""
    device = head.logit_scale.device
    text = text.to(device)
    if head.loose:
        video, sentences = _vectors(head, clips, view), head.encode_text(text).float()
        _, best = topk_similarity(sentences, video, min(BEST, len(video)))
        twin = _vector_twins(sentences, video, own, twins)
        return vector_ranks(sentences, video, own), twin, best.cpu().numpy()
    if shortlist:
        coarse = build_head("meanP", clips.dim).eval().to(device)
        rough = coarse.encode_text(text) @ _vectors(coarse, clips, view).T
        t2v, v2t = _shortlisted(head, clips, text, rough, view, shortlist)
        ranks = {"t2v": retrieval_ranks(t2v, own)["t2v"], "v2t": retrieval_ranks(v2t, own)["v2t"]}
        return ranks, _twins(t2v, own, twins), _first(t2v)
    scores = _all_pairs(head, clips, text, view, progress)
    return retrieval_ranks(scores, own), _twins(scores, own, twins), _first(scores)


def _first(scores: npt.NDArray[Any]) -> Indices:
    """The best clips of each row, equal ones in their own order."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :BEST]


def _vectors(head: Head, clips: ClipFeatures, view: View) -> Tensor:
    device = head.logit_scale.device
    parts = [
        head.encode_clips(batch_of(clips, places, view, device)).float()
        for places in _blocks(len(clips), LOOSE_CLIPS)
    ]
    return torch.cat(parts)


def _all_pairs(
    head: Head, clips: ClipFeatures, text: Tensor, view: View, progress: bool
) -> npt.NDArray[Any]:
    """Scores of every pair, float32 [captions, clips], a block of clips at a time."""
    scores = np.empty((len(text), len(clips)), np.float32)
    bar = Progress(f"score pairs {head.name}", len(clips)) if progress else None
    for places in _blocks(len(clips), TIGHT_CLIPS):
        batch = batch_of(clips, places, view, text.device)
        scores[:, places] = head(batch, text).float().cpu().numpy()
        if bar:
            bar.step(len(places))
    return scores


def _blocks(count: int, size: int) -> list[Indices]:
    return [np.arange(low, min(low + size, count)) for low in range(0, count, size)]


def vector_ranks(text: Tensor, video: Tensor, own: Indices) -> dict[str, Ranks]:
    """Ranks in both directions from unit vectors, in blocks: no [captions, clips] matrix.

    Args:
        text: [captions, D].
        video: [clips, D], of the same dtype.
        own: int [captions], each caption's clip.
    """
    t2v = _counted(text, video, own)
    clips, first = np.unique(own, return_index=True)
    if len(clips) == len(own):
        return {"t2v": t2v, "v2t": _counted(video[torch.from_numpy(clips)], text, first)}
    return {"t2v": t2v, "v2t": _grouped(text, video, own, clips)}


def _counted(queries: Tensor, gallery: Tensor, targets: Indices) -> Ranks:
    greater, equal, right = ground_truth_counts(queries, gallery, torch.from_numpy(targets))
    ahead, ties = greater.cpu().numpy(), (equal + right).cpu().numpy()
    return Ranks(ahead.astype(np.int64), ties.astype(np.int64))


def _grouped(text: Tensor, video: Tensor, own: Indices, clips: Indices) -> Ranks:
    """Clips looking for the groups of captions, a group scoring as its best member."""
    step = max(1, BLOCK // len(text))
    wide = text.double()
    parts = []
    for low in range(0, len(clips), step):
        rows = torch.from_numpy(clips[low : low + step])
        scores = (wide @ video[rows].double().T).cpu().numpy().round(DECIMALS)
        groups, _ = group_maximum(scores, own)
        parts.append(rank_targets(groups.T, np.arange(low, low + len(rows))))
    return Ranks(
        np.concatenate([part.ahead for part in parts]),
        np.concatenate([part.ties for part in parts]),
    )


def _vector_twins(text: Tensor, video: Tensor, own: Indices, twins: Indices) -> float | None:
    rows = np.flatnonzero(twins[own] >= 0)
    if not len(rows):
        return None
    words = text[rows].double()
    pair = np.stack((own[rows], twins[own[rows]]), 1)
    scores = torch.einsum("qd,qpd->qp", words, video[pair].double()).cpu().numpy().round(DECIMALS)
    return twin_accuracy(scores, np.zeros(len(rows), np.int64), np.array([1, -1]))


def _twins(scores: npt.NDArray[Any], own: Indices, twins: Indices) -> float | None:
    return twin_accuracy(scores, own, twins) if (twins[own] >= 0).any() else None


def _shortlisted(
    head: Head, clips: ClipFeatures, text: Tensor, rough: Tensor, view: View, count: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Matrices [captions, clips]: one with shortlists of clips, one with those of captions."""

    def clips_for(row: int, few: list[int]) -> Tensor:
        return head(batch_of(clips, few, view, text.device), text[row : row + 1])[0]  # type: ignore[no-any-return]

    def captions_for(row: int, few: list[int]) -> Tensor:
        return head(batch_of(clips, [row], view, text.device), text[few])[:, 0]  # type: ignore[no-any-return]

    return _rescored(rough, count, clips_for), _rescored(rough.T, count, captions_for).T


def _rescored(
    rough: Tensor, count: int, score: Callable[[int, list[int]], Tensor]
) -> npt.NDArray[np.float32]:
    """Score each row's best ``count`` columns again; the others keep their order behind them."""
    best = rough.topk(min(count, rough.shape[1]), dim=1).indices
    done = rough.float().clone()
    for row, few in enumerate(best):
        again = score(row, few.tolist()).float()
        done[row] += again.min() - 3  # cosines lie within 2 of each other
        done[row, few] = again
    return done.cpu().numpy()
