"""Moments in the demo: what heads that learned on short clips find in long videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.core.progress import say

if TYPE_CHECKING:
    from c4c.retrieval.moment_metrics import Figure, Target
    from c4c.retrieval.search import Hit

NAME = "shapes-moments"
_VIDEOS = 12  # more tell more: c4c dataset make shapes-moments has 75, and takes a minute longer
_SHOWN = {
    "r1_iou50": "R@1, IoU 0.5",
    "r1_iou70": "IoU 0.7",
    "twins": "twins",
    "video_r1": "right video",
    "nothing_auc": "AUC of none",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What heads found.

    Attributes:
        figures: of each head.
        target: a question.
        hits: the first answer of each head to it; ``None``: none.
    """

    figures: dict[str, dict[str, Figure]]
    target: Target
    hits: dict[str, Hit | None]


def find_in_films(out: Path, best: str, seed: int) -> Found:
    """Make long videos, extract them, and ask mean pooling and the best head for their moments.

    Args:
        out: the demo's folder, with the heads of ``shapes`` in ``runs``.
        best: the head that was chosen on val.
        seed: of the videos.

    Raises:
        C4CError: the folder holds something else, or it cannot be written.
    """
    from c4c.extract.config import ExtractConfig
    from c4c.extract.datasets.recipes import MomentsRecipe
    from c4c.extract.datasets.shapes_moments import QUERIES, VIDEOS, make_shapes_moments
    from c4c.extract.pipeline import run_extract
    from c4c.heads import MEAN
    from c4c.retrieval.moment_metrics import HITS, figures_of, read_targets
    from c4c.retrieval.searcher import Searcher

    root, cache = out / NAME, out / "cache-moments"
    say(f"{NAME} long videos, and where in them a sentence comes true")
    make_shapes_moments(root, MomentsRecipe(seed, _VIDEOS))
    run_extract(ExtractConfig(dataset="folder", root=root / VIDEOS, cache=cache, backbone="tiny"))
    targets = read_targets(root / QUERIES)
    figures, hits = {}, {}
    for head in dict.fromkeys((MEAN, best)):
        with Searcher(cache, out / "runs" / head / "best") as searcher:
            answers = list(searcher.stream((one.query for one in targets), HITS))
        figures[head] = figures_of(targets, answers)
        hits[head] = answers[0][0] if answers[0] else None
    return Found(figures, targets[0], hits)


def moments_rows(found: Found) -> list[list[str]]:
    """A row a head; below each figure, in a line of its own, its 95 % interval."""
    from c4c.retrieval.moment_metrics import told

    heads = {name: told(figures) for name, figures in found.figures.items()}
    rows = [
        [head, *(f"{one[name][1]}\n{one[name][2]}" for name in _SHOWN)]
        for head, one in heads.items()
    ]
    return [[NAME, *_SHOWN.values()], *rows]


def moments_table(found: Found) -> str:
    """The same for the terminal, without percent signs."""
    from c4c.retrieval.table import render

    rows = moments_rows(found)
    return render([[cell.replace("\n", " ").replace(" %", "") for cell in row] for row in rows])


def moments_part(found: Found, best: str) -> Sequence[str]:
    """The same for the page, with the first answers to a question."""
    from c4c.core.records import Clip
    from c4c.extract.video.decode import decode_clip
    from c4c.retrieval.moment_metrics import overlap
    from c4c.retrieval.page import escape, table
    from c4c.retrieval.report import Example, Strip, film

    strips = []
    for head, hit in found.hits.items():
        if hit is None:
            continue
        frames = decode_clip(Clip(hit.clip, hit.path, hit.start, hit.end)).frames.pixels
        label = f"{head}: {hit.clip}, {hit.start:g} s to {hit.end:g} s"
        strips.append(Strip(label, overlap(hit, found.target) >= 0.5, frames))
    target = found.target
    asked = f"asked for: {target.video}, {target.start:g} s to {target.end:g} s"
    questions = found.figures[best]["video_r1"].count
    about = (
        f"{questions} questions about moments of {_VIDEOS} videos of a minute, and half as many "
        "about nothing in them. IoU: what a span asked for and the first one found have in common, "
        "as a share of both together. Twins: of moments with the same frames in another order, "
        "which are in the same video, the own one comes first (chance 50). AUC of none: how often "
        "a question with an answer is surer than one without. Intervals are of 95 %."
    )
    return [
        f"<h2>The right second of the right video</h2><p>{escape(about)}</p>",
        table(moments_rows(found)),
        film("A moment", [Example(target.query, tuple(strips), asked)]),
    ]
