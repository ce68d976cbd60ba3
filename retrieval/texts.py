"""From a clip to text: which of many sentences fit a video best."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from c4c.core.limits import HITS, MOST_HITS, require_within
from c4c.core.records import Query
from c4c.retrieval.asking import Ask

if TYPE_CHECKING:
    from c4c.retrieval.searcher import Searcher

_BATCH = 256  # sentences encoded together: memory does not grow with their number


@dataclass(frozen=True, slots=True)
class TextHit:
    """A sentence that fits.

    Attributes:
        like: what it fits, as it was asked.
        rank: from 1 on.
        score: the cosine.
        text: the sentence; a ``Query`` brings the id that it was given by.
    """

    like: str
    rank: int
    score: float
    text: str

    def as_dict(self) -> dict[str, str | int | float]:
        """The fields, as a line of JSON lines has them; with the sentence's ``id``, if any."""
        name = self.text.id if isinstance(self.text, Query) else None
        return ({} if name is None else {"id": name}) | asdict(self)


@torch.inference_mode()
def best_texts(
    searcher: Searcher, like: str, sentences: Iterable[str | Ask], k: int = HITS
) -> list[TextHit]:
    """The k sentences that fit a video best, best first; of equal ones the first.

    Args:
        searcher: whose backbone and head compare them.
        like: a video of the cache or any other, a picture, or a second: ``VIDEO@12.5``.
        sentences: any number, read as they are needed.
        k: how many at most, 1 to 1024.

    Raises:
        C4CError: see ``Searcher.vector_of``; or a sentence that is not text.
    """
    require_within("top_k", k, 1, MOST_HITS)
    vector = searcher.vector_of(like)
    best: list[tuple[float, int, str]] = []  # ordered by score, then by who came last
    numbers = itertools.count()
    several = iter(sentences)
    while batch := [Ask.of(one) for one in itertools.islice(several, _BATCH)]:
        _, vectors = searcher.encoder.vectors(batch, searcher.vector_of)
        for ask, score in zip(batch, (vectors @ vector).tolist(), strict=True):
            # What batches change in the last digits is no order.
            item = (round(score, 6), -next(numbers), ask.label)
            if len(best) < k:
                heapq.heappush(best, item)
            else:
                heapq.heappushpop(best, item)
    ranked = enumerate(sorted(best, reverse=True), 1)
    return [TextHit(like, rank, score, text) for rank, (score, _, text) in ranked]
