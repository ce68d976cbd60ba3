"""Ranks of a split by a head: vectors compared in blocks, or pairs scored one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from c4c.cache.open import ClipFeatures
from c4c.core.progress import Progress
from c4c.core.records import FeatureBatch
from c4c.core.sampling import View
from c4c.heads import mean_of
from c4c.heads.base import Head
from c4c.kernels import topk_similarity
from c4c.kernels.ranks.op import ground_truth_counts
from c4c.retrieval.metrics import Ranks, retrieval_ranks, sorted_places, twin_wins
from c4c.retrieval.rerank import DECIMALS, group_ranks, ranks_of, score_blocks, weigh
from c4c.retrieval.scores import MatrixScores, Scores, VectorScores

# Clips encoded at once by a loose head, and paired with every caption at once by a tight one.
LOOSE_CLIPS, TIGHT_CLIPS = 256, 16
# Clips kept of each text query, to be shown.
BEST = 10
Indices = npt.NDArray[np.int64]


def batch_of(
    clips: ClipFeatures, places: Indices | Sequence[int], view: View, device: torch.device
) -> FeatureBatch:
    """What a head sees of some clips, on its device."""
    found = clips.batch(places, view)
    return FeatureBatch(found.features.to(device), found.lengths.to(device))


@dataclass(frozen=True, slots=True)
class Rerank:
    """How scores are re-weighted, and the bank of training queries that QB-Norm needs.

    Attributes:
        kind: ``qbnorm`` or ``dual-softmax``.
        clips: clips of the bank; ``None`` for dual softmax.
        text: its captions' features [B, D], likewise.
    """

    kind: str
    clips: ClipFeatures | None = None
    text: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """What ranking a split gave.

    Attributes:
        ranks: of both directions.
        twins: float64 [captions], 1 where the own clip outranks its twin, 0.5 at a tie, NaN
            without a twin.
        best: int64 [captions, n], the first clips of each caption.
        scores: all scores, for who wants to write them down.
    """

    ranks: dict[str, Ranks]
    twins: npt.NDArray[np.float64]
    best: Indices
    scores: Scores


@torch.inference_mode()
def rank_split(
    head: Head,
    clips: ClipFeatures,
    text: Tensor,
    own: Indices,
    twins: Indices,
    view: View,
    shortlist: int | None,
    rerank: Rerank | None,
    progress: bool,
) -> Ranked:
    """Ranks of both directions, twins, and each text's first clips."""
    device = head.logit_scale.device
    text = text.to(device)
    if not head.loose:
        return _rank_pairs(head, clips, text, own, twins, view, shortlist, progress)
    video, sentences = clip_vectors(head, clips, view), head.encode_text(text).float()
    twin = _vector_twins(sentences, video, own, twins)
    if rerank:
        scores = _weighted(head, sentences, video, own, view, rerank)
        ranks, best = _reranked(scores)
        return Ranked(ranks, twin, best, scores)
    _, first = topk_similarity(sentences, video, min(BEST, len(video)))
    scores = VectorScores(own, sentences, video)
    return Ranked(vector_ranks(sentences, video, own), twin, first.cpu().numpy(), scores)


def _rank_pairs(
    head: Head,
    clips: ClipFeatures,
    text: Tensor,
    own: Indices,
    twins: Indices,
    view: View,
    shortlist: int | None,
    progress: bool,
) -> Ranked:
    """Ranks by a tight head, from the scores of all pairs or of shortlists."""
    if shortlist:
        coarse = mean_of(head)
        rough = coarse.encode_text(text) @ clip_vectors(coarse, clips, view).T
        t2v, v2t = _shortlisted(head, clips, text, rough, view, shortlist)
    else:
        t2v = v2t = _all_pairs(head, clips, text, view, progress)
    ranks = {"t2v": retrieval_ranks(t2v, own)["t2v"], "v2t": retrieval_ranks(v2t, own)["v2t"]}
    return Ranked(ranks, twin_wins(t2v, own, twins), _first(t2v), MatrixScores(own, t2v, v2t))


def _weighted(
    head: Head, text: Tensor, video: Tensor, own: Indices, view: View, rerank: Rerank
) -> VectorScores:
    """Re-weighted scores; each direction has its own bank of queries."""
    texts, videos = text, video[torch.from_numpy(np.unique(own))]
    if rerank.clips is not None and rerank.text is not None:
        texts = head.encode_text(rerank.text.to(text.device)).float()
        videos = clip_vectors(head, rerank.clips, view)
    by_clip, by_caption = weigh(rerank.kind, texts, video), weigh(rerank.kind, videos, text)
    return VectorScores(own, text, video, by_clip, by_caption)


def _reranked(scores: VectorScores) -> tuple[dict[str, Ranks], Indices]:
    """Ranks by re-weighted scores."""
    best: list[Indices] = []

    def noting() -> Iterator[tuple[Indices, npt.NDArray[Any]]]:
        for places, rows in scores.t2v():
            best.append(_first(rows))
            yield places, rows

    t2v = ranks_of(noting(), scores.own)
    groups = np.arange(len(np.unique(scores.own)))
    return {"t2v": t2v, "v2t": ranks_of(scores.v2t(), groups)}, np.concatenate(best)


def _first(scores: npt.NDArray[Any]) -> Indices:
    """The best clips of each row, equal ones in their own order."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :BEST]


@torch.inference_mode()
def clip_vectors(head: Head, clips: ClipFeatures, view: View) -> Tensor:
    """One unit vector a clip by a loose head, float32 [N, D] on the head's device."""
    head.eval()
    device = head.logit_scale.device
    found = torch.empty(len(clips), head.dim, device=device)
    for places in _blocks(len(clips), LOOSE_CLIPS):
        found[places] = head.encode_clips(batch_of(clips, places, view, device)).float()
    return found


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
    captioned = video[torch.from_numpy(clips)]
    return {"t2v": t2v, "v2t": group_ranks(score_blocks(captioned, text, None), own)}


def _counted(queries: Tensor, gallery: Tensor, targets: Indices) -> Ranks:
    greater, equal, right = ground_truth_counts(queries, gallery, torch.from_numpy(targets))
    ahead = greater.cpu().numpy().astype(np.int64)
    ties = (equal + right).cpu().numpy().astype(np.int64)
    places = ahead + 1
    for row in np.flatnonzero(ties > 1):  # few: the whole matrix is never made
        scores = (queries[row].double() * gallery.double()).sum(1, keepdim=True).T
        places[row] = sorted_places(scores.cpu().numpy(), targets[row : row + 1])[0]
    return Ranks(ahead, ties, places)


def _vector_twins(
    text: Tensor, video: Tensor, own: Indices, twins: Indices
) -> npt.NDArray[np.float64]:
    """``twin_wins`` from unit vectors: only the two scores that it needs."""
    wins = np.full(len(own), np.nan)
    rows = np.flatnonzero(twins[own] >= 0)
    if len(rows):
        words = text[rows].double()
        pair = np.stack((own[rows], twins[own[rows]]), 1)
        scores = torch.einsum("qd,qpd->qp", words, video[pair].double()).cpu().numpy()
        none = np.zeros(len(rows), np.int64)
        wins[rows] = twin_wins(scores.round(DECIMALS), none, np.array([1, -1]))
    return wins


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
