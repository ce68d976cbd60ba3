"""Evaluation: a head and a split in, figures of both directions and every query's rank out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.cache.open import CaptionFeatures, ClipFeatures
from c4c.core.editions import edition_notes
from c4c.core.errors import C4CError
from c4c.core.records import Leak
from c4c.core.sampling import View
from c4c.heads import MEAN
from c4c.heads.base import Head
from c4c.retrieval.choices import RERANKS, TIES
from c4c.retrieval.metrics import Metrics, Ranks, places_of, summarise, twin_accuracy
from c4c.retrieval.notes import SEVERAL, chosen_note, gallery_notes
from c4c.retrieval.ranking import Rerank, rank_split
from c4c.retrieval.scores import Scores

SCHEMA = 2  # of the results file (docs/reference/results-format.md)
READABLE = (1, 2)  # 1 had neither ``leak`` nor ``mrr``


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation found.

    Attributes:
        head: the head's name.
        view: which frames it saw.
        metrics: ``t2v`` and ``v2t``, ties by expectation.
        authors: the same as the authors' code counts ties; empty when not asked for.
        twin_wins: whether each text query's clip outranks its twin (1, 0, 0.5 at a tie), NaN
            without a twin, float64 [Q].
        best: places of the first (ten at most) clips of every text query, [Q, n].
        ranks: of every query, by direction.
        captions: (caption id, clip id, text) of every text query.
        clips: ids of the clip queries.
        gallery: ids of all clips, which ``best`` counts in.
        pairs: clip id to the id of its twin.
        videos: clip id to (path, start, end) of each clip that is right or first somewhere.
        source: what was evaluated: dataset, split, cache, checkpoint, weights.
        missing: annotated clips without a video.
        failed: clips that could not be extracted.
        scores: all scores, for exports; not in the results file.
        leak: what of the gallery the model has seen in training; ``None`` when nobody looked.
        notes: what must be said beside the figures, leaks among them.
    """

    head: str
    view: View
    metrics: dict[str, Metrics]
    authors: dict[str, Metrics]
    twin_wins: npt.NDArray[np.float64]
    best: npt.NDArray[np.int64]
    ranks: dict[str, Ranks]
    captions: tuple[tuple[str, str, str], ...]
    clips: tuple[str, ...]
    gallery: tuple[str, ...]
    pairs: dict[str, str] = field(default_factory=dict)
    videos: dict[str, tuple[str, float, float | None]] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    leak: Leak | None = None
    scores: Scores | None = field(default=None, repr=False, compare=False)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        ways = "; ".join(
            f"{way} R@1 {one.r1:.1f}, R@5 {one.r5:.1f}, R@10 {one.r10:.1f}"
            for way, one in self.metrics.items()
        )
        sizes = f"{len(self.captions)} captions, {len(self.gallery)} clips"
        return f"Evaluation({self.head}, {sizes}: {ways})"

    @property
    def twins(self) -> float | None:
        """Twin accuracy in percent, or ``None`` when no clip has a twin."""
        return twin_accuracy(self.twin_wins)

    def as_dict(self) -> dict[str, Any]:
        """The results file: figures and every query's rank, as plain data."""
        return {
            "schema": SCHEMA,
            "head": self.head,
            "source": self.source,
            "view": asdict(self.view),
            "metrics": {way: found.as_dict() for way, found in self.metrics.items()},
            "authors": {way: found.as_dict() for way, found in self.authors.items()},
            "twin_accuracy": self.twins,
            "missing": list(self.missing),
            "failed": list(self.failed),
            "leak": asdict(self.leak) if self.leak else None,
            "notes": list(self.notes),
            "videos": {name: list(found) for name, found in self.videos.items()},
            "queries": {
                "t2v": [self._query(place) for place in range(len(self.captions))],
                "v2t": [
                    {"clip": clip, **self.ranks["v2t"].of(place)}
                    for place, clip in enumerate(self.clips)
                ],
            },
        }

    def _query(self, place: int) -> dict[str, Any]:
        """One text query: its clip and its rank, the clip that came first, its twin's fate."""
        name, clip, text = self.captions[place]
        row: dict[str, Any] = {"caption": name, "clip": clip, "text": text}
        row |= {**self.ranks["t2v"].of(place), "first": self.gallery[self.best[place, 0]]}
        if not np.isnan(won := float(self.twin_wins[place])):
            row |= {"twin": self.pairs[clip], "before_twin": won}
        return row


def evaluate(
    head: Head,
    clips: ClipFeatures,
    captions: CaptionFeatures,
    view: View | None = None,
    ties: str = "expected",
    progress: bool = False,
    shortlist: int | None = None,
    rerank: Rerank | None = None,
    source: dict[str, Any] | None = None,
    leak: Leak | None = None,
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
        rerank: how scores are re-weighted, for loose heads.
        source: what is evaluated, kept with the figures.
        leak: what of the clips the model has seen in training, likewise.

    Raises:
        C4CError: no caption with a clip, scores that are NaN, unknown ``ties``, or a tight head
            that is to be re-ranked.
    """
    if rerank and not head.loose:
        raise C4CError(f"--rerank needs a head with a vector a clip; {head.name} has none.")
    if ties not in TIES:
        raise C4CError(f"Unknown ties '{ties}'. Known: {', '.join(TIES)}.")
    of_all = places_of(clips.ids, captions.clip_ids)
    kept = np.flatnonzero(of_all >= 0)
    if not len(kept):
        raise C4CError("No caption here has a clip with features: nothing to evaluate.")
    own = of_all[kept]
    twins = places_of(clips.ids, [clips.twins.get(name, "") for name in clips.ids])
    view, text = view or View(), captions.batch(kept)
    ranked = rank_split(head.eval(), clips, text, own, twins, view, shortlist, rerank, progress)
    found = ranked.ranks
    several = len(np.unique(own)) < len(own)
    chosen_here = _chosen_here(source or {})
    by_authors = summarise(found, len(clips), several, "authors", clips.expected)
    return Evaluation(
        head=head.name,
        view=view,
        metrics=summarise(found, len(clips), several, "expected", clips.expected),
        authors=by_authors if ties == "authors" else {},
        twin_wins=ranked.twins,
        best=ranked.best,
        ranks=found,
        captions=tuple(
            (captions.captions[i].id, captions.clip_ids[i], captions.captions[i].text) for i in kept
        ),
        clips=tuple(clips.ids[i] for i in np.unique(own)),
        gallery=tuple(clips.ids),
        pairs=clips.twins,
        videos={
            clip.id: (clip.path, clip.start, clip.end)
            for clip in (clips.clips[i] for i in np.union1d(own, ranked.best[:, 0]))
        },
        source=source or {},
        missing=clips.missing,
        failed=tuple(failure.clip_id for failure in clips.failed),
        leak=leak,
        scores=ranked.scores,
        notes=(
            *(leak.notes(bool(chosen_here)) if leak else ()),
            *edition_notes([*clips.ids, *(one.clip_id for one in clips.failed)]),
            *_notes(head, clips, len(captions) - len(kept), several, shortlist),
            *([RERANKS[rerank.kind]] if rerank else []),
            *chosen_here,
        ),
    )


def _notes(
    head: Head, clips: ClipFeatures, left_out: int, several: bool, shortlist: int | None
) -> list[str]:
    notes = gallery_notes(clips.expected, len(clips.missing), len(clips.failed), left_out)
    if several:
        notes.append(SEVERAL)
    if shortlist and not head.loose:
        notes.append(f"only the {shortlist} best candidates of {MEAN} were scored by {head.name}")
    return notes


def _chosen_here(source: dict[str, Any]) -> list[str]:
    """A best epoch that was chosen on the split it is evaluated on is said (the authors do so)."""
    split = source.get("split")
    if split and source.get("chosen_on") == split:
        return [chosen_note(split)]
    return []
