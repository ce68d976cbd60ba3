"""Search: sentences in, ranked clips out; the gallery is never scored as one matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c4c.cache.open import ClipFeatures
from c4c.core.errors import C4CError
from c4c.core.limits import HITS
from c4c.core.records import Clip, Query
from c4c.core.sampling import View
from c4c.heads import mean_of
from c4c.heads.base import Head
from c4c.kernels import GalleryIndex, topk_similarity
from c4c.retrieval.ranking import Rerank, batch_of, clip_vectors
from c4c.retrieval.rerank import search_reranked, weigh


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a query.

    Attributes:
        query: the sentence; a ``Query`` brings the id that it was asked by.
        rank: from 1 on.
        score: cosine for loose heads, logit for tight ones.
        confidence: how sure it is that the hit answers the query, 0 to 1; ``None``: not known.
        clip: the clip's id.
        path: its video.
        start: where it begins, in seconds of the video.
        end: where it ends; ``None`` is the end of the video.
        best: the second of the video that fits best; ``None``: not looked for.
        notes: what is odd about it: ``partial``, ``missing``, and copies of the same content.
    """

    query: str
    rank: int
    score: float
    confidence: float | None
    clip: str
    path: str
    start: float
    end: float | None
    best: float | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, str | int | float | None]:
        """The fields, as a line of JSON lines has them; with the query's ``id`` if it has one."""
        name = self.query.id if isinstance(self.query, Query) else None
        own = {field: getattr(self, field) for field in _FIELDS}
        return ({} if name is None else {"id": name}) | own


_FIELDS = tuple(Hit.__dataclass_fields__)


@torch.inference_mode()
def search(
    batches: Iterable[tuple[Sequence[str], Tensor]],
    head: Head,
    clips: ClipFeatures,
    k: int = HITS,
    view: View | None = None,
    shortlist: int = 100,
    rerank: Rerank | None = None,
) -> Iterator[Hit]:
    """The k best clips for each sentence; see ``ClipSearch``.

    Args:
        batches: sentences and their features [Q, D], some at a time; hits of a batch are given
            before the next one is asked for.
        head: a loose or a tight one.
        clips: the gallery.
        k: answers a query.
        view: which frames the head sees.
        shortlist: clips that a tight head looks at.
        rerank: QB-Norm with its bank; hits keep their cosine as the score.

    Yields:
        Hits, query after query, best first.

    Raises:
        C4CError: an empty gallery, or features that do not fit the head.
    """
    clip_search = ClipSearch(head, clips, view, shortlist, rerank)
    for queries, text in batches:
        for hits in clip_search.answer(queries, text, k):
            yield from hits


class ClipSearch:
    """Whole clips, ready for batch after batch of queries.

    Args:
        head: a loose head searches its gallery; a tight one scores the ``shortlist`` best
            clips of mean pooling.
        clips: the gallery.
        view: which frames the head sees.
        shortlist: clips that a tight head looks at.
        rerank: QB-Norm with its bank; hits keep their cosine as the score.

    Raises:
        C4CError: an empty gallery.
    """

    def __init__(
        self,
        head: Head,
        clips: ClipFeatures,
        view: View | None = None,
        shortlist: int = 100,
        rerank: Rerank | None = None,
    ) -> None:
        if not len(clips):
            raise C4CError("The gallery is empty: no clip of this cache has features.")
        self._head, self._clips, self._view = head, clips, view or View()
        self._shortlist = shortlist
        loose = head if head.loose else mean_of(head)
        self._nearest = _Nearest(loose, clip_vectors(loose, clips, self._view), rerank)

    @torch.inference_mode()
    def answer(self, queries: Sequence[str], text: Tensor, k: int) -> list[list[Hit]]:
        """The k best clips for each of some sentences.

        Args:
            queries: Q sentences.
            text: their features [Q, D].
            k: answers a query.

        Raises:
            C4CError: features that do not fit the head.
        """
        head, clips = self._head, self._clips
        wanted = min(k if head.loose else max(k, self._shortlist), len(clips))
        scores, rows = self._nearest.to(text, wanted)
        answers = []
        for number, query in enumerate(queries):
            best, own = rows[number], scores[number]
            if not head.loose:
                best, own = _rerank(head, clips, text[number : number + 1], best, self._view)
            ranked = zip(best[:k].tolist(), own[:k].tolist(), strict=True)
            answers.append(
                [
                    _hit(query, rank, score, clips.clips[row])
                    for rank, (row, score) in enumerate(ranked, 1)
                ]
            )
        return answers


def _hit(query: str, rank: int, score: float, clip: Clip) -> Hit:
    return Hit(query, rank, round(score, 6), None, clip.id, clip.path, clip.start, clip.end)


class _Nearest:
    """The gallery as vectors [N, D], ready for batch after batch of queries."""

    def __init__(self, head: Head, vectors: Tensor, rerank: Rerank | None) -> None:
        self._head, self._vectors, self._weights = head, vectors, None
        self._gallery: Tensor | GalleryIndex | None = None
        if rerank and rerank.text is not None:
            bank = head.encode_text(rerank.text.to(vectors.device)).float()
            self._weights = weigh(rerank.kind, bank, vectors)

    def to(self, text: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Scores and places [Q, count] of the clips nearest to text features [Q, D]."""
        vectors = self._vectors
        encoded = self._head.encode_text(text.to(vectors.device)).float()
        if self._weights is not None:
            places = search_reranked(encoded, vectors, self._weights, count, topk_similarity).cpu()
            return torch.einsum("qd,qkd->qk", encoded, vectors[places]).cpu(), places
        scores, places = topk_similarity(encoded, self._prepared(), count)
        return scores.cpu(), places.cpu()

    def _prepared(self) -> Tensor | GalleryIndex:
        """The vectors for the first batch; from the second on an index of them pays on a CPU."""
        if self._gallery is None:
            self._gallery = self._vectors
        elif isinstance(self._gallery, Tensor) and self._vectors.device.type == "cpu":
            self._gallery = GalleryIndex(self._vectors)
        return self._gallery


def _rerank(
    head: Head, clips: ClipFeatures, text: Tensor, places: Tensor, view: View
) -> tuple[Tensor, Tensor]:
    """Order a shortlist by a tight head; equal scores keep the shortlist's order."""
    device = head.logit_scale.device
    head.eval()
    batch = batch_of(clips, places.numpy(), view, device)
    scores = head(batch, text.to(device))[0].float().cpu()
    order = torch.argsort(scores, descending=True, stable=True)
    return places[order], scores[order]
