"""``c4c retrieve``: an evaluation, or a search as a stream of hits."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError
from c4c.retrieval.opening import RetrieveConfig, open_head, rerank_of
from c4c.retrieval.queries import read_queries

if TYPE_CHECKING:
    from c4c.retrieval.asking import Ask
    from c4c.retrieval.evaluate import Evaluation
    from c4c.retrieval.search import Hit

__all__ = ["RetrieveConfig", "open_head", "read_queries", "run_evaluate", "run_search"]


def run_evaluate(config: RetrieveConfig) -> Evaluation:
    """Evaluate a head on a split of a cache.

    Raises:
        C4CError: see ``open_head``; or the split has no captions.
    """
    from c4c.retrieval.evaluate import evaluate
    from c4c.retrieval.leaks import find_leak

    cache, head, view, trained = open_head(config)
    split = config.split or ("test" if "test" in cache.splits else None)
    clips, captions = cache.clips(split, captioned=True), cache.captions(split)
    source = {
        "dataset": cache.dataset,
        "split": split,
        "cache": str(cache.path),
        "checkpoint": str(config.checkpoint) if config.checkpoint else None,
        "model": cache.fingerprint.model,
        "weights": cache.fingerprint.sha256,
        "chosen_on": trained.get("chosen_on"),
    }
    rerank = rerank_of(config, cache, split, trained)
    leak = find_leak(cache, split, config.checkpoint, trained)
    return evaluate(
        head, clips, captions, view, config.ties, True, config.shortlist, rerank, source, leak
    )


def run_search(config: RetrieveConfig, queries: Iterable[str | Ask]) -> Iterator[Hit]:
    """Search a cache for sentences, a batch of them at a time.

    Args:
        config: where, and how.
        queries: sentences; read as they are needed, so there may be any number.

    Yields:
        Hits, query after query, best first.

    Raises:
        C4CError: see ``Searcher``.
    """
    from c4c.retrieval.searcher import Searcher

    asked = iter(queries)
    first = next(asked, None)
    if first is None:
        raise C4CError("There is no query: pass a sentence, or --queries FILE with one a line.")
    with Searcher.of(config) as searcher:
        for hits in searcher.stream(itertools.chain([first], asked), config.top_k):
            yield from hits
