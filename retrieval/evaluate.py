"""Evaluation: a scorer and a split in, figures of both directions and every query's rank out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from c4c.errors import C4CError
from c4c.extract.cache import CaptionFeatures, ClipFeatures
from c4c.kernels.ranks import ground_truth_counts
from c4c.retrieval.metrics import (
    Metrics,
    Ranks,
    group_maximum,
    places_of,
    rank_targets,
    retrieval_ranks,
    summarise,
    twin_accuracy,
)
from c4c.retrieval.scorer import Scorer, owners

SCHEMA = 1
# Scores of one block of the grouped direction, float64: 64 MB.
BLOCK = 8 << 20
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation found.

    Attributes:
        about: head, source, view, split, re-ranking: what the figures are of.
        metrics: ``t2v`` and ``v2t``, ties by expectation.
        authors: the same as the authors' code counts ties.
        twin_accuracy: percent, or ``None`` when no clip has a twin.
        ranks: expected rank of every query, by direction.
        captions: (caption id, clip id, text) of every text query.
        clips: ids of the clip queries (v2t).
        missing: annotated clips without a video.
        failed: clips that could not be extracted.
        unanswerable: captions left out because their clip has no features.
    """

    about: dict[str, Any]
    metrics: dict[str, Metrics]
    authors: dict[str, Metrics]
    twin_accuracy: float | None
    ranks: dict[str, npt.NDArray[np.float64]]
    captions: tuple[tuple[str, str, str], ...]
    clips: tuple[str, ...]
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = field(default=())
    unanswerable: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The results file: figures and every query's rank, as plain data."""
        t2v = zip(self.captions, self.ranks["t2v"].tolist(), strict=True)
        v2t = zip(self.clips, self.ranks["v2t"].tolist(), strict=True)
        return {
            "schema": SCHEMA,
            **self.about,
            "metrics": {way: found.as_dict() for way, found in self.metrics.items()},
            "authors": {way: found.as_dict() for way, found in self.authors.items()},
            "twin_accuracy": self.twin_accuracy,
            "missing": list(self.missing),
            "failed": list(self.failed),
            "unanswerable_captions": self.unanswerable,
            "queries": {
                "t2v": [
                    {"caption": name, "clip": clip, "text": text, "rank": rank}
                    for (name, clip, text), rank in t2v
                ],
                "v2t": [{"clip": clip, "rank": rank} for clip, rank in v2t],
            },
        }

    def lacking(self) -> str:
        """What the gallery lacks, as words to stand beside a figure; empty when whole."""
        gone = len(self.missing) + len(self.failed)
        if not gone:
            return ""
        expected = self.metrics["t2v"].gallery_expected
        return (
            f"not comparable: {gone} of {expected} clips are not in the gallery "
            f"({len(self.missing)} without video, {len(self.failed)} failed)"
        )


def evaluate(
    scorer: Scorer,
    clips: ClipFeatures,
    captions: CaptionFeatures,
    shortlist: int | None = None,
    coarse: Scorer | None = None,
    about: dict[str, Any] | None = None,
) -> Evaluation:
    """Rank every caption's clip and every clip's captions.

    Loose heads are counted block by block, never with the whole matrix; tight heads score
    every pair, or with ``shortlist`` only the best of a loose head.

    Args:
        scorer: the head.
        clips: the gallery.
        captions: the queries.
        shortlist: for tight heads: score only so many candidates a query, the best of
            ``coarse``; the others stay behind them in its order.
        coarse: a loose scorer, for ``shortlist``.
        about: further facts for the results file (dataset, split, cache).

    Raises:
        C4CError: no caption with a clip, or scores that are NaN.
    """
    of_all = owners(clips, captions)
    kept = np.flatnonzero(of_all >= 0)
    if not len(kept):
        raise C4CError("No caption here has a clip with features: nothing to evaluate.")
    own, text = of_all[kept], captions.batch(kept)
    twins = places_of(clips.ids, [clips.twins.get(name, "") for name in clips.ids])
    if scorer.head.loose:
        ranks, twin = _loose(scorer, clips, text, own, twins)
        label = None
    elif shortlist is not None and coarse is not None:
        ranks, twin = _shortlisted(scorer, coarse, clips, text, own, twins, shortlist)
        label = f"top {shortlist} of {coarse.head.name}"
    else:
        scores = scorer.scores(clips, text).float().cpu().numpy()
        ranks = retrieval_ranks(scores, own)
        twin = _twin(scores, own, twins)
        label = None
    several = len(np.unique(own)) < len(own)
    return Evaluation(
        about={**(about or {}), **scorer.describe(), "shortlist": label},
        metrics=summarise(ranks, len(clips), several, "expected", clips.expected),
        authors=summarise(ranks, len(clips), several, "authors", clips.expected),
        twin_accuracy=twin,
        ranks={way: found.expected() for way, found in ranks.items()},
        captions=tuple(
            (captions.captions[i].id, captions.clip_ids[i], captions.captions[i].text) for i in kept
        ),
        clips=tuple(clips.ids[i] for i in np.unique(own)),
        missing=clips.missing,
        failed=tuple(failure.clip_id for failure in clips.failed),
        unanswerable=len(captions) - len(kept),
    )


def vector_ranks(text: Tensor, video: Tensor, own: Indices) -> dict[str, Ranks]:
    """Ranks in both directions from unit vectors, in blocks: no [captions, clips] matrix.

    Args:
        text: [captions, D].
        video: [clips, D], same dtype.
        own: int [captions], each caption's clip.
    """
    t2v = _counted(text, video, own)
    clips, first = np.unique(own, return_index=True)
    if len(clips) == len(own):
        return {"t2v": t2v, "v2t": _counted(video[torch.from_numpy(clips)], text, first)}
    return {"t2v": t2v, "v2t": _grouped(text, video, own, clips)}


def _counted(queries: Tensor, gallery: Tensor, targets: Indices) -> Ranks:
    greater, equal, right = ground_truth_counts(queries, gallery, torch.from_numpy(targets))
    return Ranks(
        greater.cpu().numpy().astype(np.int64), (equal + right).cpu().numpy().astype(np.int64)
    )


def _grouped(text: Tensor, video: Tensor, own: Indices, clips: Indices) -> Ranks:
    """Clips looking for groups of captions; scores are rounded so that equal vectors tie."""
    step = max(1, BLOCK // len(text))
    wide = text.double()
    parts = []
    for low in range(0, len(clips), step):
        rows = torch.from_numpy(clips[low : low + step])
        scores = (wide @ video[rows].double().T).cpu().numpy().round(9)
        groups, _ = group_maximum(scores, own)
        parts.append(rank_targets(groups.T, np.arange(low, low + len(rows))))
    return Ranks(
        np.concatenate([part.ahead for part in parts]),
        np.concatenate([part.ties for part in parts]),
    )


def _loose(
    scorer: Scorer, clips: ClipFeatures, text: Tensor, own: Indices, twins: Indices
) -> tuple[dict[str, Ranks], float | None]:
    sentences, video = scorer.text_vectors(text), scorer.clip_vectors(clips)
    ranks = vector_ranks(sentences, video, own)
    rows = np.flatnonzero(twins[own] >= 0)
    if not len(rows):
        return ranks, None
    words = sentences[rows].double()
    right = (words * video[own[rows]].double()).sum(1).cpu().numpy().round(9)
    wrong = (words * video[twins[own[rows]]].double()).sum(1).cpu().numpy().round(9)
    return ranks, 100 * float(((right > wrong) + 0.5 * (right == wrong)).mean())


def _twin(scores: npt.NDArray[Any], own: Indices, twins: Indices) -> float | None:
    return twin_accuracy(scores, own, twins) if (twins[own] >= 0).any() else None


@torch.inference_mode()
def _shortlisted(
    scorer: Scorer,
    coarse: Scorer,
    clips: ClipFeatures,
    text: Tensor,
    own: Indices,
    twins: Indices,
    count: int,
) -> tuple[dict[str, Ranks], float | None]:
    """Each query's best candidates scored again; each direction has its own shortlists."""
    rough = coarse.scores(clips, text)
    t2v = rerank_rows(
        rough,
        count,
        lambda row, few: scorer.head(scorer.batch(clips, few), scorer.text(text[row : row + 1]))[0],
    )
    v2t = rerank_rows(
        rough.T,
        count,
        lambda row, few: scorer.head(scorer.batch(clips, [row]), scorer.text(text[few]))[:, 0],
    )
    ranks = {
        "t2v": retrieval_ranks(t2v, own)["t2v"],
        "v2t": retrieval_ranks(v2t.T, own)["v2t"],
    }
    return ranks, _twin(t2v, own, twins)


def rerank_rows(rough: Tensor, count: int, score: Any) -> npt.NDArray[np.float32]:
    """Score each row's best ``count`` columns again; the others keep their order behind them.

    Args:
        rough: [Q, N] cosines.
        count: columns a row.
        score: (row, list of columns) to scores [n].
    """
    best = rough.topk(min(count, rough.shape[1]), dim=1).indices
    done = rough.float().clone()
    for row, few in enumerate(best):
        again = score(row, few.tolist()).float()
        done[row] += float(again.min()) - 3  # cosines lie within 2 of each other
        done[row, few] = again
    return done.cpu().numpy()
