"""Retrieval metrics from a similarity matrix: ranks with fair ties, recalls, twin accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.retrieval.choices import TIES

RECALLS = (1, 5, 10, 50)
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where each query's right answer stands, ties and all.

    Attributes:
        ahead: int64 [Q], how many wrong answers score higher.
        ties: int64 [Q], how many answers share the right one's score, itself included.
        places: int64 [Q], from 1 on, where a sort puts the right answer (``sorted_places``);
            ``None`` when nothing was sorted.
    """

    ahead: npt.NDArray[np.int64]
    ties: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64] | None = None

    def expected(self) -> npt.NDArray[np.float64]:
        """Rank from 1 on, on average over every order of the tied answers, [Q]."""
        return self.ahead + (self.ties + 1) / 2

    def of(self, place: int) -> dict[str, float | int]:
        """Expected rank of one query, and how many answers tie there (itself included)."""
        ahead, ties = int(self.ahead[place]), int(self.ties[place])
        return {"rank": ahead + (ties + 1) / 2, "ties": ties}

    def within(self, k: int) -> npt.NDArray[np.float64]:
        """Chance of each query that its right answer is among the first k, [Q]."""
        return np.asarray(np.clip((k - self.ahead) / self.ties, 0, 1), np.float64)

    def reciprocal(self) -> float:
        """Mean over queries of the reciprocal rank, in expectation over the orders of ties."""
        longest = int((self.ahead + self.ties).max(initial=0))
        sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, longest + 1))])
        return float(((sums[self.ahead + self.ties] - sums[self.ahead]) / self.ties).mean())

    def recall(self, k: int) -> float:
        """Percent of queries whose right answer is among the first k, in expectation."""
        return 100 * float(self.within(k).mean())


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures of one direction; recalls in percent, ranks from 1 on.

    Attributes:
        r1: share of queries with the right answer first; ``r5``, ``r10``, ``r50`` likewise.
        median_rank: median of the ranks.
        mean_rank: their mean.
        mrr: mean of their reciprocals, 0 to 1.
        queries: how many queries.
        gallery: how many answers to choose from.
        gallery_expected: how many there are when the benchmark is complete.
    """

    r1: float
    r5: float
    r10: float
    r50: float
    median_rank: float
    mean_rank: float
    mrr: float
    queries: int
    gallery: int
    gallery_expected: int

    @property
    def rsum(self) -> float:
        """Sum of the recalls at 1, 5 and 10."""
        return self.r1 + self.r5 + self.r10

    def as_dict(self) -> dict[str, float]:
        """The figures and their sum, as plain data."""
        return {**asdict(self), "rsum": self.rsum}


def rank_targets(similarity: Array, targets: Array) -> Ranks:
    """Rank each row's right column.

    Args:
        similarity: [Q, N].
        targets: int [Q], the right column of each row.

    Raises:
        C4CError: a similarity is NaN, or shapes do not fit.
    """
    similarity, targets = np.asarray(similarity), np.asarray(targets)
    if similarity.ndim != 2 or targets.shape != similarity.shape[:1]:
        raise C4CError(f"similarity is {similarity.shape}, targets {targets.shape}; expected Q x N")
    bad = np.isnan(similarity).any(axis=1)
    if bad.any():
        raise C4CError(
            f"{int(bad.sum())} queries have NaN similarities (first: number {int(bad.argmax())}); "
            "the features or the checkpoint are damaged: c4c cache verify."
        )
    own = np.take_along_axis(similarity, targets[:, None].astype(np.int64), 1)
    ahead = (similarity > own).sum(1, dtype=np.int64)
    ties = (similarity == own).sum(1, dtype=np.int64)
    places = ahead + 1
    tied = ties > 1
    places[tied] = sorted_places(similarity[tied], targets[tied])
    return Ranks(ahead, ties, places)


def sorted_places(similarity: Array, targets: Array) -> npt.NDArray[np.int64]:
    """Where torch's sort puts each row's right column, from 1 on, [Q].

    The authors' code ranks so where clips have several captions. The sort is not stable: which
    of two tied clips comes first is its own affair, and may differ between machines.
    """
    import torch

    rows = torch.from_numpy(np.ascontiguousarray(similarity, np.float64))
    order = torch.argsort(rows, dim=-1, descending=True).numpy()
    return np.asarray((order == np.asarray(targets)[:, None]).argmax(axis=1) + 1, np.int64)


def group_maximum(similarity: Array, clip_of_caption: Array) -> tuple[Array, Array]:
    """For each clip that has captions, the best similarity over its captions.

    CLIP4Clip's protocol for several captions a clip: a clip looks for a *group* of captions,
    and a group scores as its best member.

    Args:
        similarity: [captions, clips].
        clip_of_caption: int [captions].

    Returns:
        [groups, clips], and int [groups]: the clip of each group.
    """
    order = np.argsort(clip_of_caption, kind="stable")
    clips, starts = np.unique(np.asarray(clip_of_caption)[order], return_index=True)
    return np.maximum.reduceat(np.asarray(similarity)[order], starts, axis=0), clips


def retrieval_ranks(similarity: Array, clip_of_caption: Array) -> dict[str, Ranks]:
    """Ranks in both directions.

    Args:
        similarity: [captions, clips].
        clip_of_caption: int [captions], the column of each caption's clip.

    Returns:
        ``t2v``: a rank a caption among clips. ``v2t``: a rank a captioned clip among the
        groups of captions (``group_maximum``), in the clips' order.

    Raises:
        C4CError: NaN, no caption, or shapes that do not fit.
    """
    if len(clip_of_caption) == 0:
        raise C4CError("There is no caption to evaluate with; does this split have captions?")
    t2v = rank_targets(similarity, clip_of_caption)
    groups, clips = group_maximum(similarity, clip_of_caption)
    v2t = rank_targets(groups[:, clips].T, np.arange(len(clips)))
    return {"t2v": t2v, "v2t": v2t}


def retrieval_metrics(
    similarity: Array,
    clip_of_caption: Array,
    ties: str = "expected",
    gallery_expected: int | None = None,
) -> dict[str, Metrics]:
    """Metrics in both directions.

    Args:
        similarity: [captions, clips].
        clip_of_caption: int [captions], the column of each caption's clip.
        ties: ``expected`` counts a tie as every order of the tied answers on average, so a
            constant similarity scores chance; ``authors`` as CLIP4Clip's code does.
        gallery_expected: clips of the complete benchmark, when some are missing here.

    Raises:
        C4CError: NaN, no caption, shapes that do not fit, or unknown ``ties``.
    """
    several = len(np.unique(clip_of_caption)) < len(clip_of_caption)
    ranks = retrieval_ranks(similarity, clip_of_caption)
    clips = np.asarray(similarity).shape[1]
    return summarise(ranks, clips, several, ties, gallery_expected)


def summarise(
    ranks: Mapping[str, Ranks],
    clips: int,
    several: bool,
    ties: str = "expected",
    gallery_expected: int | None = None,
) -> dict[str, Metrics]:
    """Metrics from ranks that are already known.

    Args:
        ranks: as ``retrieval_ranks`` gives them.
        clips: how many clips the gallery has.
        several: whether a clip has several captions (the authors count MSVD so).
        ties: ``expected`` or ``authors``.
        gallery_expected: clips of the complete benchmark.

    Raises:
        C4CError: unknown ``ties``.
    """
    if ties not in TIES:
        raise C4CError(f"Unknown ties '{ties}'. Known: {', '.join(TIES)}.")
    sizes = {"t2v": clips, "v2t": len(ranks["v2t"].ahead)}
    lacking = max(0, (gallery_expected or clips) - clips)
    found = {}
    for way, own in ranks.items():
        lower = several and way == "t2v"
        figures = _authors(own, lower) if ties == "authors" else _fair(own, lower)
        found[way] = Metrics(
            **figures,
            queries=len(own.ahead),
            gallery=sizes[way],
            gallery_expected=sizes[way] + lacking,
        )
    return found


def _fair(ranks: Ranks, lower_median: bool) -> dict[str, float]:
    expected = ranks.expected()
    return {
        **{f"r{k}": ranks.recall(k) for k in RECALLS},
        "median_rank": _median(expected, lower_median),
        "mean_rank": float(expected.mean()),
        "mrr": ranks.reciprocal(),
    }


def _authors(ranks: Ranks, several: bool) -> dict[str, float]:
    """Figures of every tied place (``np.where(sorted == diagonal)``), or of a sort's place."""
    places = ranks.places if several else _every_place(ranks)
    if places is None:
        raise ValueError("these ranks were counted without a sort")
    return {
        **{f"r{k}": 100 * float((places <= k).mean()) for k in RECALLS},
        "median_rank": _median(places, several),
        "mean_rank": float(places.mean()),
        "mrr": float((1 / places).mean()),
    }


def _every_place(ranks: Ranks) -> npt.NDArray[np.int64]:
    first = np.repeat(ranks.ahead, ranks.ties)
    starts = np.repeat(np.cumsum(ranks.ties) - ranks.ties, ranks.ties)
    return np.asarray(first + np.arange(len(first)) - starts + 1)


def _median(values: Array, lower: bool) -> float:
    """The median; of an even number the lower middle one when ``lower``, as the authors do."""
    if lower:
        return float(np.sort(values)[(len(values) - 1) // 2])
    return float(np.median(values))


def twin_wins(similarity: Array, clip_of_caption: Array, twin_of_clip: Array) -> Array:
    """Whether each caption's own clip outranks that clip's twin: 1, 0, 0.5 at a tie.

    Args:
        similarity: [captions, clips].
        clip_of_caption: int [captions].
        twin_of_clip: int [clips], the twin's column; -1 for a clip without one.

    Returns:
        float64 [captions], NaN where the clip has no twin.
    """
    similarity, owners = np.asarray(similarity), np.asarray(clip_of_caption)
    twins = np.asarray(twin_of_clip)[owners]
    wins = np.full(len(owners), np.nan)
    rows = np.flatnonzero(twins >= 0)
    own, other = similarity[rows, owners[rows]], similarity[rows, twins[rows]]
    wins[rows] = (own > other) + 0.5 * (own == other)
    return wins


def twin_accuracy(wins: Array) -> float | None:
    """Share of ``twin_wins`` in percent; ``None`` when no caption's clip has a twin."""
    known = wins[~np.isnan(wins)]
    return 100 * float(known.mean()) if len(known) else None


def places_of(ids: Sequence[str], names: Sequence[str]) -> Array:
    """The place of each of ``names`` in ``ids``, -1 when it is not there; int64."""
    place: Mapping[str, int] = {name: index for index, name in enumerate(ids)}
    return np.array([place.get(name, -1) for name in names], np.int64).reshape(-1)
