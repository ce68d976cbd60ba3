"""Evaluation: a head and a split in, figures of both directions and every query's rank out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError
from c4c.extract.cache import CaptionFeatures, ClipFeatures
from c4c.heads.base import Head
from c4c.retrieval.metrics import TIES, Metrics, places_of, summarise
from c4c.retrieval.ranking import View as View
from c4c.retrieval.ranking import batch_of as batch_of
from c4c.retrieval.ranking import rank_split

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation found.

    Attributes:
        head: the head's name.
        view: which frames it saw.
        metrics: ``t2v`` and ``v2t``, ties by expectation.
        authors: the same as the authors' code counts ties; empty when not asked for.
        twins: twin accuracy in percent, or ``None`` when no clip has a twin.
        best: places of the first (ten at most) clips of every text query, [Q, n].
        ranks: expected rank of every query, by direction.
        captions: (caption id, clip id, text) of every text query.
        clips: ids of the clip queries.
        missing: annotated clips without a video.
        failed: clips that could not be extracted.
        notes: what must be said beside the figures.
    """

    head: str
    view: View
    metrics: dict[str, Metrics]
    authors: dict[str, Metrics]
    twins: float | None
    best: npt.NDArray[np.int64]
    ranks: dict[str, npt.NDArray[np.float64]]
    captions: tuple[tuple[str, str, str], ...]
    clips: tuple[str, ...]
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The results file: figures and every query's rank, as plain data."""
        t2v = zip(self.captions, self.ranks["t2v"].tolist(), strict=True)
        v2t = zip(self.clips, self.ranks["v2t"].tolist(), strict=True)
        return {
            "schema": SCHEMA,
            "head": self.head,
            "view": asdict(self.view),
            "metrics": {way: found.as_dict() for way, found in self.metrics.items()},
            "authors": {way: found.as_dict() for way, found in self.authors.items()},
            "twin_accuracy": self.twins,
            "missing": list(self.missing),
            "failed": list(self.failed),
            "notes": list(self.notes),
            "queries": {
                "t2v": [
                    {"caption": name, "clip": clip, "text": text, "rank": rank}
                    for (name, clip, text), rank in t2v
                ],
                "v2t": [{"clip": clip, "rank": rank} for clip, rank in v2t],
            },
        }


def evaluate(
    head: Head,
    clips: ClipFeatures,
    captions: CaptionFeatures,
    view: View | None = None,
    ties: str = "expected",
    progress: bool = False,
    shortlist: int | None = None,
) -> Evaluation:
    """Rank every caption's clip and every captioned clip's captions.

    Loose heads are counted in blocks, never with the whole matrix; tight heads score every
    pair, or with ``shortlist`` the best candidates of mean pooling.

    Args:
        head: any head, on any device.
        clips: the gallery.
        captions: the queries; those whose clip has no features are left out, and said.
        view: which frames the head sees.
        ties: ``authors`` adds their way of counting ties.
        progress: show progress on stderr.
        shortlist: candidates a query that a tight head scores; the others stay behind them.

    Raises:
        C4CError: no caption with a clip, scores that are NaN, or unknown ``ties``.
    """
    if ties not in TIES:
        raise C4CError(f"Unknown ties '{ties}'. Known: {', '.join(TIES)}.")
    of_all = places_of(clips.ids, captions.clip_ids)
    kept = np.flatnonzero(of_all >= 0)
    if not len(kept):
        raise C4CError("No caption here has a clip with features: nothing to evaluate.")
    own = of_all[kept]
    twins = places_of(clips.ids, [clips.twins.get(name, "") for name in clips.ids])
    found, twin, best = rank_split(
        head.eval(), clips, captions.batch(kept), own, twins, view or View(), shortlist, progress
    )
    several = len(np.unique(own)) < len(own)
    by_authors = summarise(found, len(clips), several, "authors", clips.expected)
    return Evaluation(
        head=head.name,
        view=view or View(),
        metrics=summarise(found, len(clips), several, "expected", clips.expected),
        authors=by_authors if ties == "authors" else {},
        twins=twin,
        best=best,
        ranks={way: ranks.expected() for way, ranks in found.items()},
        captions=tuple(
            (captions.captions[i].id, captions.clip_ids[i], captions.captions[i].text) for i in kept
        ),
        clips=tuple(clips.ids[i] for i in np.unique(own)),
        missing=clips.missing,
        failed=tuple(failure.clip_id for failure in clips.failed),
        notes=tuple(_notes(head, clips, len(captions) - len(kept), several, shortlist)),
    )


def _notes(
    head: Head, clips: ClipFeatures, left_out: int, several: bool, shortlist: int | None
) -> list[str]:
    notes = []
    if gone := len(clips.missing) + len(clips.failed):
        notes.append(
            f"not comparable: {gone} of {clips.expected} clips are not in the gallery "
            f"({len(clips.missing)} without video, {len(clips.failed)} failed)"
        )
    if left_out:
        notes.append(f"{left_out} captions left out: their clips have no features")
    if several:
        notes.append(
            "several captions a clip: video to text ranks each clip's best caption among those "
            "of the others, and the median of text to video is the lower middle (CLIP4Clip)"
        )
    if shortlist and not head.loose:
        notes.append(f"only the {shortlist} best candidates of meanP were scored by {head.name}")
    return notes
