"""Vectors of questions in, hits out: the gallery asked, moments made of its windows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.retrieval.confidence import Usual, confidence
from c4c.retrieval.filters import Filter
from c4c.retrieval.gallery import MOST
from c4c.retrieval.gallery_build import padded, seen_of
from c4c.retrieval.moments import Moment, find_moments, pairs, sees_order
from c4c.retrieval.on_ray import RayGallery
from c4c.retrieval.search import Hit

if TYPE_CHECKING:
    from c4c.cache.open import ClipFeatures
    from c4c.retrieval.filters import Mask
    from c4c.retrieval.gallery import Gallery
    from c4c.retrieval.gallery_piece import Named
    from c4c.retrieval.gallery_refresh import Maker
    from c4c.retrieval.opening import SearchConfig
    from c4c.retrieval.wanted import Wanted

_TOGETHER = 64  # moments that a tight head scores at once
_FIRST = 128  # windows looked at for a question; more when they are not enough moments


class Answers:
    """A gallery with what turns its rows into hits.

    Args:
        gallery: what is searched.
        maker: what made it.
        config: settings of the search.
    """

    def __init__(self, gallery: Gallery, maker: Maker, config: SearchConfig) -> None:
        self.gallery, self._maker, self._config = gallery, maker, config
        kind = "clips" if config.whole else "windows"
        self._kind, self._usual = kind, Usual.of(gallery.unrelated(kind))
        self._cluster = RayGallery(gallery, config.address) if config.engine == "ray" else None
        self._nearest = (self._cluster or gallery).nearest
        self._masks = lru_cache(8)(self._allowed)
        self._features_of = lru_cache(None)(self._opened)

    def close(self) -> None:
        """Let go of the cluster that searches, if one does."""
        if self._cluster is not None:
            self._cluster.close()

    def _allowed(self, where: Filter) -> list[Mask | None] | None:
        split = self._config.split
        return where.masks(self.gallery, self._maker.cache, split) if where or split else None

    def _opened(self, split: str) -> tuple[ClipFeatures, dict[str, int]]:
        """The features of a split, and the place of each clip in them."""
        clips = self._maker.cache.clips(split, incomplete=True)
        return clips, {name: row for row, name in enumerate(clips.ids)}

    def find(
        self,
        labels: Sequence[str],
        vectors: Tensor,
        features: Tensor | None,
        wanted: Wanted,
    ) -> list[list[Hit]]:
        """The answers to some questions.

        Args:
            labels: what hits carry as their query.
            vectors: unit vectors [Q, D].
            features: text features [Q, D], which a tight head looks at.
            wanted: how many, and which.
        """
        allowed = self._masks(wanted.where or Filter())
        count = wanted.k if self._config.whole else max(_FIRST, 4 * wanted.k)
        ranked = self._nearest(self._kind, vectors, count, allowed)
        answers = []
        for row, label in enumerate(labels):
            own = tuple(part[row] for part in ranked)
            text = None if features is None else features[row]
            moments = self._moments(vectors[row], own, count, text, wanted)
            hits = _hits(label, moments[: wanted.k], self._usual, wanted.min_confidence or 0)
            answers.append(hits)
        return answers

    def _moments(
        self,
        vector: Tensor,
        ranked: tuple[Tensor, ...],
        asked: int,
        features: Tensor | None,
        wanted: Wanted,
    ) -> list[Moment]:
        """Enough moments, or clips, of one question; more rows are asked for until there are."""
        tight = not self._maker.head.loose
        count = max(wanted.k, self._config.shortlist or 100) if tight else wanted.k
        allowed = self._masks(wanted.where or Filter())
        while True:
            found = self._some(vector, ranked, count, wanted)
            spent = asked >= MOST or len(ranked[0]) < asked or bool((ranked[1] < 0).any())
            if len(found) >= count or spent:
                break
            asked = min(MOST, 4 * asked)
            again = self._nearest(self._kind, vector[None], asked, allowed)
            ranked = tuple(part[0] for part in again)
        return self._rescored(found, features) if tight and features is not None else found

    def _some(
        self, vector: Tensor, ranked: tuple[Tensor, ...], count: int, wanted: Wanted
    ) -> list[Moment]:
        rows = pairs(*ranked)
        if self._config.whole:
            return self._clips(rows, count, wanted)
        ordered = sees_order(self._maker.head)
        keep = _exists if wanted.hide else _any
        return find_moments(
            self.gallery.pieces, vector, rows, ordered, count, wanted.per_video, keep
        )

    def _clips(
        self, rows: Iterator[tuple[float, int, int]], count: int, wanted: Wanted
    ) -> list[Moment]:
        found: list[Moment] = []
        of_video: dict[str, int] = {}
        for score, piece, row in rows:
            named = self.gallery.pieces[piece].name(row)
            seen = of_video.get(named.path, 0)
            if (wanted.hide and not _exists(named)) or seen >= (wanted.per_video or MOST):
                continue
            of_video[named.path] = seen + 1
            found.append(
                Moment(named, named.start, named.end, None, score, score, (piece, row, 0, 0))
            )
            if len(found) == count:
                break
        return found

    def _rescored(self, moments: list[Moment], features: Tensor) -> list[Moment]:
        """Moments in the order of a tight head, which looks at each with the question."""
        head, view = self._maker.head, self._maker.view
        for low in range(0, len(moments), _TOGETHER):
            some, rows = moments[low : low + _TOGETHER], []
            for moment in some:
                piece, _, first, last = moment.window
                clips, row_of = self._features_of(self.gallery.splits[piece])
                frames = clips.read(row_of[moment.named.id])
                rows.append(seen_of(frames, (first, last), view))
            scores = head(padded(rows, head.logit_scale.device), features[None])[0].tolist()
            for moment, score in zip(some, scores, strict=True):
                moment.score = score
        return sorted(moments, key=lambda moment: -moment.score)

    @cached_property
    def _clips_of(self) -> dict[str, list[tuple[int, int]]]:
        """Piece and row of each video's clips, by its path."""
        rows: dict[str, list[tuple[int, int]]] = {}
        for number, (piece, gone) in enumerate(
            zip(self.gallery.pieces, self.gallery.gone, strict=True)
        ):
            for row in range(len(piece)):
                if gone is None or not gone[row]:
                    rows.setdefault(piece.name(row).path, []).append((number, row))
        return rows

    def frame_scores(self, vector: Tensor, video: str) -> list[tuple[float, float]]:
        """Second and cosine of each frame of a video, by time; see ``Searcher.frame_scores``.

        Raises:
            C4CError: no clip of that video is in the gallery.
        """
        if video not in self._clips_of:
            raise C4CError(f"No clip of {video} with features is in {self._maker.cache.path}.")
        scores: dict[float, float] = {}  # clips of a video may overlap
        for number, row in self._clips_of[video]:
            piece = self.gallery.pieces[number]
            frames, times = piece.clip_frames(row)
            seconds = (times + piece.name(row).start).tolist()
            scores |= zip(seconds, (frames.float() @ vector).tolist(), strict=True)
        return sorted(scores.items())

    def vector_of(self, video: str, second: float | None) -> Tensor | None:
        """The unit vector [D] of a video, or of a second of it; ``None``: it is not in the gallery.

        Raises:
            C4CError: that second is in none of its clips.
        """
        known = False
        wanted = os.path.abspath(video)
        for piece in self.gallery.pieces:
            for row in range(len(piece)):
                named = piece.name(row)
                if video != named.id and wanted != os.path.abspath(named.path):
                    continue
                known = True
                if second is None:
                    return piece.clips[row]
                frames, times = piece.clip_frames(row)
                apart = np.abs(times + named.start - second)
                if apart.min() <= _NEAR:
                    return frames[int(apart.argmin())].float()
        if not known:
            return None
        raise C4CError(
            f"--like: no clip of {video}, with a frame at {second:g} s, is in "
            f"{self._maker.cache.path}."
        )


_NEAR = 2.0  # seconds from what was asked for to the nearest frame of a clip


def video_and_second(like: str) -> tuple[str, float | None]:
    """``VIDEO@12.5`` in its parts; a name may have an @ of its own."""
    video, _, second = like.rpartition("@")
    try:
        return (video, float(second)) if video else (like, None)
    except ValueError:
        return like, None


def _exists(named: Named) -> bool:
    return os.path.exists(named.path)


def _any(named: Named) -> bool:
    return True


def _hits(label: str, moments: list[Moment], usual: Usual | None, least: float) -> list[Hit]:
    """What is told of moments of at least some confidence, in their order."""
    told = [(moment, confidence(moment.cosine, usual)) for moment in moments]
    kept = [(moment, sure) for moment, sure in told if (sure or 0) >= least]
    return [_hit(label, rank, moment, sure) for rank, (moment, sure) in enumerate(kept, 1)]


def _hit(label: str, rank: int, moment: Moment, sure: float | None) -> Hit:
    named, notes = moment.named, []
    if named.partial:
        notes.append("partial: the video is damaged, its frames end early")
    if not _exists(named):
        notes.append("missing: the video file does not exist")
    notes += [f"copy: {path}" for path in moment.copies]
    return Hit(
        query=label,
        rank=rank,
        score=round(moment.score, 6),
        confidence=sure,
        clip=named.id,
        path=named.path,
        start=round(moment.start, 3),
        end=_rounded(moment.end),
        best=_rounded(moment.best),
        notes=tuple(notes),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
