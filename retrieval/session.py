"""``c4c retrieve --evaluate``: a head evaluated on a split of a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c4c.core.errors import C4CError
from c4c.retrieval.opening import RetrieveConfig, open_head, rerank_of

if TYPE_CHECKING:
    from c4c.retrieval.evaluate import Evaluation


def run_evaluate(config: RetrieveConfig, averages: str = "after") -> Evaluation:
    """Evaluate a head on a split of a cache.

    Args:
        config: settings.
        averages: of the untrained head, see ``MeanP``.

    Raises:
        C4CError: see ``open_head``; or the split has no captions.
    """
    from c4c.heads.meanp import MeanP
    from c4c.retrieval.evaluate import evaluate
    from c4c.retrieval.leaks import find_leak

    if config.engine != "local":
        raise C4CError("--engine ray is for search; leave it out with --evaluate.")
    cache, head, view, trained = open_head(config)
    if isinstance(head, MeanP):
        head.averages = averages
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
