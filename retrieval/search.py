"""Search: sentences in, ranked clips out; the gallery is never scored as one matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from c4c.cache.open import ClipFeatures
from c4c.core.errors import C4CError
from c4c.core.records import Query
from c4c.heads import mean_of
from c4c.heads.base import Head
from c4c.kernels import GalleryIndex, topk_similarity
from c4c.retrieval.ranking import Rerank, View, batch_of, clip_vectors
from c4c.retrieval.rerank import search_reranked, weigh


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a query.

    Attributes:
        query: the sentence; a ``Query`` brings the id that it was asked by.
        rank: from 1 on.
        score: cosine for loose heads, logit for tight ones.
        clip: the clip's id.
        path: its video.
        start: where it begins, in seconds.
        end: where it ends; ``None`` is the end of the video.
    """

    query: str
    rank: int
    score: float
    clip: str
    path: str
    start: float
    end: float | None

    def as_dict(self) -> dict[str, str | int | float | None]:
        """The fields, as a line of JSON lines has them; with the query's ``id`` if it has one."""
        name = self.query.id if isinstance(self.query, Query) else None
        return ({} if name is None else {"id": name}) | asdict(self)


@torch.inference_mode()
def search(
    batches: Iterable[tuple[Sequence[str], Tensor]],
    head: Head,
    clips: ClipFeatures,
    k: int = 10,
    view: View | None = None,
    shortlist: int = 100,
    rerank: Rerank | None = None,
) -> Iterator[Hit]:
    """The k best clips for each sentence.

    Args:
        batches: sentences and their features [Q, D], some at a time; hits of a batch are given
            before the next one is asked for.
        head: a loose head searches its gallery; a tight one scores the ``shortlist`` best
            clips of mean pooling.
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
    if not len(clips):
        raise C4CError("The gallery is empty: no clip of this cache has features.")
    view = view or View()
    loose = head if head.loose else mean_of(head)
    nearest = _Nearest(loose, clip_vectors(loose, clips, view), rerank)
    wanted = min(k if head.loose else max(k, shortlist), len(clips))
    for queries, text in batches:
        scores, places = nearest.to(text, wanted)
        for row, query in enumerate(queries):
            found, own = places[row], scores[row]
            if not head.loose:
                found, own = _rerank(head, clips, text[row : row + 1], found, view)
            for rank in range(min(k, len(found))):
                clip = clips.clips[int(found[rank])]
                score = round(float(own[rank]), 6)
                yield Hit(query, rank + 1, score, clip.id, clip.path, clip.start, clip.end)


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
