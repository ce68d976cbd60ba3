"""``c4c retrieve``: puts cache, checkpoint and backbone together for evaluation or search."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.device import pick_device
from c4c.core.errors import C4CError
from c4c.core.files import parse_json
from c4c.core.limits import MOST_FRAMES, require_within
from c4c.core.progress import say
from c4c.core.records import Query
from c4c.core.schema import parse

if TYPE_CHECKING:
    from torch import Tensor

    from c4c.cache.open import Cache
    from c4c.extract.backbone.backbone import Backbone
    from c4c.heads.base import Head
    from c4c.retrieval.evaluate import Evaluation
    from c4c.retrieval.ranking import Rerank, View
    from c4c.retrieval.search import Hit

_BATCH = 256  # sentences encoded at once, and the least that is answered together
_LONGEST = 1 << 20  # bytes of a line of queries

_HALF = re.compile("[\ud800-\udfff]")


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
        pretrained: weights for the texts; ``None`` is a tag that the cache names, or the file that
            was passed for the same weights before.
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

    def __post_init__(self) -> None:
        require_within("top_k", self.top_k, 1, 1024)
        require_within("shortlist", self.shortlist, 1, 1024)
        require_within("max_frames", self.max_frames, 1, MOST_FRAMES)


def open_head(config: RetrieveConfig) -> tuple[Cache, Head, View, dict[str, Any]]:
    """The cache, the head on its device, the frames it is to see, and how it was trained.

    Raises:
        C4CError: cache or checkpoint cannot be read, or were not made for each other.
    """
    from c4c.cache.open import Cache, find_cache
    from c4c.heads import MEAN, build_head
    from c4c.heads.checkpoint import load_checkpoint
    from c4c.retrieval.ranking import View

    cache = Cache.open(find_cache(config.cache))
    device = pick_device(config.device)
    if config.checkpoint is None:
        hidden = cache.features == "hidden"
        head = build_head(MEAN, cache.dim, cache.head_init(), hidden=hidden)
        return cache, head.to(device), View(config.max_frames), {}
    found = load_checkpoint(config.checkpoint)
    _check_fit(cache, found.meta, config.checkpoint)
    cache.require_features(found.head.projections is not None)
    if found.head.dim != cache.dim:
        raise C4CError(
            f"{config.checkpoint} takes features of {found.head.dim} channels, and those of "
            f"{cache.path} have {cache.dim}; use a cache of the backbone it was trained on."
        )
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
    from c4c.retrieval.evaluate import evaluate
    from c4c.retrieval.leaks import find_leak

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
    bank = config.bank or (trained.get("config") or {}).get("train_split", "train")
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


def run_search(config: RetrieveConfig, queries: Iterable[str]) -> Iterator[Hit]:
    """Search a cache for sentences, a batch of them at a time.

    Args:
        config: where, and how.
        queries: sentences; read as they are needed, so there may be any number.

    Yields:
        Hits, query after query, best first.

    Raises:
        C4CError: see ``open_head``; or the cache's weights are in a file that nobody passed here.
    """
    from c4c.extract.backbone.backbone import load_backbone
    from c4c.extract.backbone.trusted import remember, weights_of
    from c4c.retrieval.search import search

    asked = iter(queries)
    first = next(asked, None)
    if first is None:
        raise C4CError("There is no query: pass a sentence, or --queries FILE with one a line.")
    if config.rerank == "dual-softmax":
        raise C4CError("--rerank dual-softmax is for --evaluate: it needs all queries of a split.")
    cache, head, view, trained = open_head(config)
    rerank = _rerank(config, cache, config.split, trained)
    made = cache.fingerprint
    weights = config.pretrained or weights_of(made, cache.path)
    backbone = load_backbone(made.model, weights, config.device, made.dtype)
    if backbone.sha256 != made.sha256:
        raise C4CError(
            f"{cache.path} was made with other weights than '{weights}' are now; pass "
            "--pretrained with the ones it was made with, or extract again."
        )
    if config.pretrained:
        remember(backbone)
    encoded = _encoded(itertools.chain([first], asked), backbone, head.projections is not None)
    clips, shortlist = cache.clips(config.split), config.shortlist or 100
    yield from search(encoded, head, clips, config.top_k, view, shortlist, rerank)


def _encoded(
    queries: Iterator[str], backbone: Backbone, hidden: bool
) -> Iterator[tuple[list[str], Tensor]]:
    """Sentences in batches, each with its features [b, D]: any number takes the same memory."""
    import torch

    while batch := list(itertools.islice(queries, _BATCH)):
        for query in batch:
            if _HALF.search(query):
                raise C4CError(f"The sentence '{query}' is not UTF-8 text; write it anew.")
        with torch.inference_mode():
            text = backbone.encode_text(backbone.tokenize(batch), hidden).float()
        yield batch, text


@dataclass(frozen=True, slots=True)
class _Asked:
    """A line of JSON that asks for something."""

    query: str
    id: str | int | None = None

    def __post_init__(self) -> None:
        if not self.query.strip() or _HALF.search(self.query):
            raise C4CError("its query is empty, or holds half a character.")


def read_queries(path: str) -> Iterator[str]:
    """Sentences from a file (``-`` is standard input): one a line, or JSON lines with ``query``.

    An ``id`` beside a ``query`` is kept: the sentence is a ``Query``.

    Yields:
        Sentence after sentence, as they are read.

    Raises:
        C4CError: the file cannot be read, or a line is neither.
    """
    count = 0
    try:
        for number, line in enumerate(_lines(path), 1):
            if len(line) > _LONGEST:
                raise C4CError(f"{path} line {number} is longer than {_LONGEST} bytes.")
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                count += 1
                yield _query(text, f"{path} line {number}")
    except OSError as error:
        raise C4CError(f"Cannot read queries from {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise C4CError(f"{path} line {number} is not UTF-8; convert the file.") from None
    say(f"{count} queries")


def _lines(path: str) -> Iterator[bytes]:
    """Lines as they come, none of them read much further than is allowed."""
    if path == "-" and sys.stdin is None:
        raise C4CError("--queries -: standard input is closed.")
    with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as stream:
        yield from iter(lambda: stream.readline(_LONGEST + 1), b"")


def _query(line: str, where: str) -> str:
    if not line.startswith("{"):
        return line
    value = parse_json(line, where)
    asked = parse(_Asked, value, where, remedy="correct that line")
    return Query(asked.query.strip(), asked.id)
