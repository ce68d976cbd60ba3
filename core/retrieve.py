"""``c4c retrieve``: puts cache, checkpoint and backbone together for evaluation or search."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.errors import C4CError
from c4c.progress import say
from c4c.records import Query

if TYPE_CHECKING:
    from c4c.extract.cache import Cache
    from c4c.heads.base import Head
    from c4c.retrieval.evaluate import Evaluation
    from c4c.retrieval.ranking import Rerank, View
    from c4c.retrieval.search import Hit


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveConfig:
    """Settings of ``c4c retrieve``.

    Attributes:
        cache: feature cache; ``None`` is the only one below ``c4c-cache``.
        checkpoint: checkpoint folder; ``None`` is mean pooling, which needs none.
        split: split to search or evaluate; ``None`` is all for search, ``test`` to evaluate.
        ties: ``expected`` or ``authors``.
        top_k: answers a query.
        shortlist: clips that a tight head looks at; ``None`` is 100 for search, and every pair
            to evaluate.
        rerank: ``none``, ``qbnorm`` or ``dual-softmax``.
        bank: split whose captions and clips are QB-Norm's bank of queries; ``None`` is the one
            that the checkpoint was trained on, or ``train``.
        max_frames: frames of a clip; ``None`` is what the checkpoint was trained with.
        device: where the head runs; ``None`` takes a GPU when there is one.
        pretrained: weights for the texts, when they lie elsewhere than at extraction.
    """

    cache: Path | None = None
    checkpoint: Path | None = None
    split: str | None = None
    ties: str = "expected"
    top_k: int = 10
    shortlist: int | None = None
    rerank: str = "none"
    bank: str | None = None
    max_frames: int | None = None
    device: str | None = None
    pretrained: str | None = None


def open_head(config: RetrieveConfig) -> tuple[Cache, Head, View, dict[str, Any]]:
    """The cache, the head on its device, the frames it is to see, and how it was trained.

    Raises:
        C4CError: cache or checkpoint cannot be read, or were not made for each other.
    """
    import torch

    from c4c.extract.cache import Cache, find_cache
    from c4c.heads import build_head
    from c4c.heads.checkpoint import load_checkpoint
    from c4c.retrieval.ranking import View

    cache = Cache.open(find_cache(config.cache))
    device = config.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if config.checkpoint is None:
        hidden = cache.features == "hidden"
        head = build_head("meanP", cache.dim, cache.head_init(), hidden=hidden)
        return cache, head.to(device), View(config.max_frames), {}
    found = load_checkpoint(config.checkpoint)
    _check_fit(cache, found.meta, config.checkpoint)
    cache.require_features(found.head.projections is not None)
    settings = found.meta.get("config", {})
    limit = config.max_frames or settings.get("max_frames")
    view = View(limit, settings.get("sampling", "uniform"), settings.get("eval_order", "ordinary"))
    return cache, found.head.to(device), view, found.meta


def _check_fit(cache: Cache, meta: dict[str, Any], path: Path) -> None:
    """A head means something only on features of the backbone that it was trained on."""
    theirs = (meta.get("fingerprint") or {}).get("sha256")
    if theirs and theirs != cache.fingerprint.sha256:
        raise C4CError(
            f"{path} was trained on features of another backbone (weights {theirs[:12]}, the cache "
            f"{cache.path} has {cache.fingerprint.sha256[:12]}); extract with that backbone "
            f"(for an end-to-end checkpoint: c4c extract --pretrained {path})."
        )


def run_evaluate(config: RetrieveConfig) -> Evaluation:
    """Evaluate a head on a split of a cache.

    Raises:
        C4CError: see ``open_head``; or the split has no captions.
    """
    from c4c.leaks import find_leak
    from c4c.retrieval.evaluate import evaluate

    cache, head, view, trained = open_head(config)
    split = config.split or ("test" if "test" in cache.splits else None)
    clips, captions = cache.clips(split), cache.captions(split)
    source = {
        "dataset": cache.dataset,
        "split": split,
        "cache": str(cache.path),
        "checkpoint": str(config.checkpoint) if config.checkpoint else None,
        "model": cache.fingerprint.model,
        "weights": cache.fingerprint.sha256,
        "chosen_on": trained.get("chosen_on"),
    }
    rerank = _rerank(config, cache, split, trained)
    leak = find_leak(cache, split, config.checkpoint, trained)
    return evaluate(
        head, clips, captions, view, config.ties, True, config.shortlist, rerank, source, leak
    )


def _rerank(
    config: RetrieveConfig, cache: Cache, split: str | None, trained: dict[str, Any]
) -> Rerank | None:
    """What re-ranks, with its bank of queries: at most ``BANK`` captions of another split.

    Raises:
        C4CError: the bank is the split that is searched, is not there, or has no captions.
    """
    import numpy as np

    from c4c.retrieval.ranking import Rerank
    from c4c.retrieval.rerank import BANK

    if config.rerank == "none":
        return None
    if config.rerank == "dual-softmax":
        return Rerank("dual-softmax")
    bank = config.bank or trained.get("config", {}).get("train_split", "train")
    if bank not in cache.splits or bank == split:
        others = ", ".join(name for name in cache.splits if name != split) or "none"
        raise C4CError(
            f"--rerank qbnorm needs a bank of other queries: --bank SPLIT, of {others} "
            f"(now '{bank}')."
        )
    captions = cache.captions(bank)
    if not len(captions):
        raise C4CError(f"--bank {bank} has no captions in {cache.path}.")
    some = np.random.default_rng(0).permutation(len(captions))[:BANK]
    return Rerank("qbnorm", cache.clips(bank), captions.batch(np.sort(some)))


def run_search(config: RetrieveConfig, queries: list[str]) -> Iterator[Hit]:
    """Search a cache for sentences.

    Raises:
        C4CError: see ``open_head``; or the backbone of the cache cannot be had for the texts.
    """
    import torch

    from c4c.extract.backbone import load_backbone
    from c4c.retrieval.search import search

    if not queries:
        raise C4CError("There is no query: pass a sentence, or --queries FILE with one a line.")
    if config.rerank == "dual-softmax":
        raise C4CError("--rerank dual-softmax is for --evaluate: it needs all queries of a split.")
    cache, head, view, trained = open_head(config)
    rerank = _rerank(config, cache, config.split, trained)
    made = cache.fingerprint
    weights = config.pretrained or made.weights
    backbone = load_backbone(made.model, weights, config.device, made.dtype)
    if backbone.sha256 != made.sha256:
        raise C4CError(
            f"{cache.path} was made with other weights than '{weights}' are now; pass "
            "--pretrained with the ones it was made with, or extract again."
        )
    with torch.inference_mode():
        hidden = head.projections is not None
        text = backbone.encode_text(backbone.tokenize(queries), hidden).float()
    clips, shortlist = cache.clips(config.split), config.shortlist or 100
    yield from search(queries, text, head, clips, config.top_k, view, shortlist, rerank)


def read_queries(path: str) -> list[str]:
    """Sentences from a file (``-`` is standard input): one a line, or JSON lines with ``query``.

    An ``id`` beside a ``query`` is kept: the sentence is a ``Query``.

    Raises:
        C4CError: the file cannot be read, or a line is neither.
    """
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        lines = data.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise C4CError(f"Cannot read queries from {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise C4CError(f"{path} is not UTF-8; convert it.") from None
    found = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line:
            found.append(_query(line, f"{path} line {number}"))
    say(f"{len(found)} queries")
    return found


def _query(line: str, where: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        row = json.loads(line)
        text, name = row["query"], row.get("id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise C4CError(f'{where} is not JSON with a "query"; mend that line.') from None
    if not isinstance(text, str) or not text.strip():
        raise C4CError(f'{where}: "query" is empty or not a text.')
    if isinstance(name, bool) or not isinstance(name, str | int | None):
        kind = type(name).__name__
        raise C4CError(f'{where}: "id" is {kind}, expected a text or a whole number.')
    return Query(text.strip(), name)
