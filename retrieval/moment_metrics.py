"""Figures of a search for moments, against a file that says where the answers are.

The file is JSON lines: ``query``, ``id``, ``video`` (the clip's id or the file's name without its
suffix; ``null``: the question has no answer), ``start`` and ``end`` in seconds, and perhaps
``twin``, the id of the question that asks for the same events in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.files import parse_json, read_text
from c4c.core.schema import parse
from c4c.retrieval.statistics import interval

if TYPE_CHECKING:
    from c4c.retrieval.search import Hit
    from c4c.retrieval.searcher import Searcher

HITS = 10  # looked at, of each question
_THRESHOLDS = np.arange(0.5, 1, 0.05)  # of the mean average precision, as in the literature
_DRAWS = 1000
_LARGEST = 256 << 20
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Target:
    """A question and where its answer is."""

    query: str
    id: str
    video: str | None
    start: float = 0.0
    end: float = 0.0
    twin: str | None = None

    def __post_init__(self) -> None:
        if self.video is not None and not 0 <= self.start < self.end:
            raise C4CError("its start and end are not those of a stretch of a video.")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its 95 % interval (over videos, or questions), and of how many questions."""

    value: float
    low: float
    high: float
    count: int


def read_targets(path: Path) -> list[Target]:
    """The questions of a file.

    Raises:
        C4CError: it cannot be read, or a line is wrong.
    """
    lines = enumerate(read_text(path, _LARGEST).split("\n"), 1)
    rows = [(f"{path} line {number}", line) for number, line in lines if line.strip()]
    targets = [parse(Target, parse_json(line, where), where) for where, line in rows]
    if len({target.id for target in targets}) < len(targets):
        raise C4CError(f"{path} has a duplicate id; give every question its own.")
    if not any(target.video for target in targets):
        raise C4CError(f"{path} has no question with an answer.")
    return targets


def overlap(hit: Hit, target: Target) -> float:
    """Intersection over union of a hit with the stretch that was asked for, 0 to 1.

    Example:
        >>> from c4c.retrieval.search import Hit
        >>> hit = Hit("q", 1, 0.5, None, "a", "a.mp4", 2.0, 10.0)
        >>> overlap(hit, Target("q", "1", "a", 0.0, 8.0))
        0.6
    """
    if not in_video(hit, target) or hit.end is None:
        return 0.0
    common = min(hit.end, target.end) - max(hit.start, target.start)
    union = max(hit.end, target.end) - min(hit.start, target.start)
    return max(0.0, common / union)


def in_video(hit: Hit, target: Target) -> bool:
    """Whether a hit is in the video that was asked for."""
    return target.video is not None and target.video in (hit.clip, Path(hit.path).stem)


def evaluate_moments(searcher: Searcher, targets: Sequence[Target]) -> dict[str, Figure]:
    """Ask every question, and compare.

    Returns:
        In percent: ``video_r1``, ``r1_iou50``, ``r1_iou70``, ``map``, ``best_inside`` (the best
        second lies in the stretch asked for) and ``twins`` (of the answers that are a question's
        own moment or its twin's, the share of own ones; 50 is chance); ``best_error`` in seconds
        from the best second of the best hit in the right video to the stretch; ``nothing_auc``,
        how often a question with an answer has a surer first hit than one without, 0 to 1.
    """
    answers = list(searcher.stream((target.query for target in targets), HITS))
    return figures_of(targets, answers)


def figures_of(targets: Sequence[Target], answers: Sequence[list[Hit]]) -> dict[str, Figure]:
    """The figures of ``evaluate_moments`` from the hits of each question."""
    known = [(one, hits) for one, hits in zip(targets, answers, strict=True) if one.video]
    of_id = {target.id: target for target in targets}
    videos = [str(target.video) for target, _ in known]
    percent = {
        "video_r1": [bool(hits) and in_video(hits[0], target) for target, hits in known],
        "r1_iou50": [bool(hits) and overlap(hits[0], target) >= 0.5 for target, hits in known],
        "r1_iou70": [bool(hits) and overlap(hits[0], target) >= 0.7 for target, hits in known],
        "map": [_precision(target, hits) for target, hits in known],
        "best_inside": [bool(hits) and _error(target, hits[0]) == 0 for target, hits in known],
        "twins": [_own(target, of_id, hits) for target, hits in known],
    }
    figures = {
        name: _figure(100 * np.array(values, np.float64), videos)
        for name, values in percent.items()
    }
    errors = [
        next((_error(target, hit) for hit in hits if in_video(hit, target)), np.nan)
        for target, hits in known
    ]
    figures["best_error"] = _figure(np.array(errors), videos)
    figures["nothing_auc"] = _auc(
        [_sure(hits) for _, hits in known],
        [_sure(hits) for one, hits in zip(targets, answers, strict=True) if not one.video],
    )
    return figures


def _precision(target: Target, hits: Sequence[Hit]) -> float:
    """Average precision of one right stretch, averaged over how well it must be met."""
    overlaps = np.array([overlap(hit, target) for hit in hits] or [0.0])
    met = overlaps[None] >= _THRESHOLDS[:, None] - 1e-9
    first = met.argmax(1)
    return float(np.where(met.any(1), 1 / (first + 1), 0).mean())


def _error(target: Target, hit: Hit) -> float:
    """Seconds from a hit's best second to the stretch that was asked for; 0 inside."""
    if hit.best is None or not in_video(hit, target):
        return float("inf")
    return max(0.0, target.start - hit.best, hit.best - target.end)


def _own(target: Target, of_id: dict[str, Target], hits: Sequence[Hit]) -> float:
    """1 when the first moment of the two twins is the own one, 0 when it is the twin's."""
    twin = of_id.get(target.twin or "")
    for hit in hits if twin else ():
        own, other = overlap(hit, target), overlap(hit, twin) if twin else 0.0
        if max(own, other) >= 0.5:
            return float(own > other)
    return float("nan")


def _sure(hits: Sequence[Hit]) -> float:
    """By what a question is told to have an answer."""
    return hits[0].score if hits else -1.0


def _figure(values: Floats, clusters: Sequence[str]) -> Figure:
    """The mean of the values that there are, with its interval over clusters."""
    there = np.isfinite(values)
    if not there.any():
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    kept = [name for name, is_there in zip(clusters, there, strict=True) if is_there]
    told = interval(values[there], kept, draws=_DRAWS)
    return Figure(told.value, told.low, told.high, int(there.sum()))


def _auc(answered: Sequence[float], unanswered: Sequence[float]) -> Figure:
    """How often an answered question is surer than one without; ties count half."""
    if not unanswered:
        return Figure(float("nan"), float("nan"), float("nan"), 0)
    more, less = np.array(answered), np.array(unanswered)
    wins = (more[:, None] > less) + 0.5 * (more[:, None] == less)
    generator = np.random.default_rng(0)
    drawn: list[float] = []
    for _ in range(_DRAWS):
        rows, columns = (generator.integers(0, size, size) for size in wins.shape)
        # The mean over rows and columns drawn, without the matrix of them.
        of_rows = np.bincount(rows, minlength=len(more)) @ wins
        drawn.append(float(of_rows @ np.bincount(columns, minlength=len(less)) / wins.size))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(float(wins.mean()), float(low), float(high), wins.size)


def as_data(figures: dict[str, Figure]) -> dict[str, Any]:
    """The figures as JSON holds them: without NaN."""
    return {
        name: {key: None if value != value else value for key, value in asdict(figure).items()}
        for name, figure in figures.items()
    }


_TOLD: dict[str, tuple[str, Callable[[float], str]]] = {
    "r1_iou50": ("R@1, IoU 0.5", "{:.1f} %".format),
    "r1_iou70": ("R@1, IoU 0.7", "{:.1f} %".format),
    "map": ("mAP, IoU 0.5 to 0.95", "{:.1f} %".format),
    "video_r1": ("right video", "{:.1f} %".format),
    "best_inside": ("best second inside", "{:.1f} %".format),
    "best_error": ("best second away", "{:.2f} s".format),
    "twins": ("own moment before its twin", "{:.1f} %".format),
    "nothing_auc": ("AUC of nothing fits", "{:.3f}".format),
}


def told(figures: dict[str, Figure]) -> dict[str, tuple[str, str, str]]:
    """The figures that there are, for people: what each is, its value and its 95 % interval."""
    return {
        name: (words, shown(one.value), f"({shown(one.low)} to {shown(one.high)})")
        for name, (words, shown) in _TOLD.items()
        if (one := figures[name]).count
    }


def figures_table(figures: dict[str, Figure]) -> str:
    """The same, a line each."""
    return "\n".join(
        f"{words:<28}{value:>9}  {span}" for words, value, span in told(figures).values()
    )
