"""``Searcher``: text tower, head and gallery, held together; sentences in, ranked hits out.

The command line, a server and a notebook ask the same object. It may be asked by several threads
at once: what it holds is only read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.retrieval.opening import RetrieveConfig, open_head, rerank_of
from c4c.retrieval.queries import HALF
from c4c.retrieval.search import ClipSearch, Hit

if TYPE_CHECKING:
    from c4c.extract.backbone.backbone import Backbone

_BATCH = 256  # sentences encoded at once, and the least that is answered together


class Searcher:
    """Finds what sentences describe, among the clips of a cache.

    Settings have the names and defaults of ``c4c retrieve``.

    Args:
        cache: a cache folder, or an open ``Cache``; ``None`` is the only one below ``c4c-cache/``.
        checkpoint: checkpoint folder; ``None`` is mean pooling, which needs none.
        split: split to search; ``None`` is all.
        shortlist: clips that a tight head looks at.
        rerank: ``none`` or ``qbnorm``.
        bank: split of QB-Norm's queries; ``None`` is that of the training, or ``train``.
        max_frames: frames of a clip; ``None`` is what the checkpoint was trained with.
        device: where head and text tower run; ``None`` takes a GPU when there is one.
        pretrained: weights for the texts; ``None`` is those that made the cache.

    Raises:
        C4CError: cache or checkpoint cannot be read or do not fit each other; the cache has no
            clip with features; its weights are in a file that nobody passed here.

    Example:
        with Searcher("c4c-cache/holidays") as search:
            for hit in search("a dog runs into the sea", k=3):
                print(hit.path, hit.start, hit.score)
    """

    def __init__(
        self,
        cache: str | Path | Cache | None = None,
        checkpoint: str | Path | None = None,
        *,
        split: str | None = None,
        shortlist: int | None = None,
        rerank: str = "none",
        bank: str | None = None,
        max_frames: int | None = None,
        device: str | None = None,
        pretrained: str | None = None,
    ) -> None:
        if isinstance(cache, Cache):
            cache = cache.path
        config = RetrieveConfig(
            cache=None if cache is None else Path(cache),
            checkpoint=None if checkpoint is None else Path(checkpoint),
            split=split,
            shortlist=shortlist,
            rerank=rerank,
            bank=bank,
            max_frames=max_frames,
            device=device,
            pretrained=pretrained,
        )
        if rerank == "dual-softmax":
            raise C4CError(
                "--rerank dual-softmax is for --evaluate: it needs all queries of a split."
            )
        self._config, self._lock = config, Lock()
        self.cache, self.head, view, trained = open_head(config)
        again = rerank_of(config, self.cache, config.split, trained)
        self._clips = self.cache.clips(config.split)
        self._search = ClipSearch(self.head, self._clips, view, config.shortlist or 100, again)
        self._tower: Backbone | None = None

    @classmethod
    def of(cls, config: RetrieveConfig) -> Searcher:
        """The searcher with the settings of a command line."""
        own = ("ties", "top_k")  # of the evaluation, and of each question
        return cls(**{f.name: getattr(config, f.name) for f in fields(config) if f.name not in own})

    def __call__(self, query: str, k: int = 10) -> list[Hit]:
        """The k best answers to one query, best first; fewer when there are no more.

        Raises:
            C4CError: the query is empty or not text.
        """
        return self._answer([query], k)[0]

    def stream(self, queries: Iterable[str], k: int = 10) -> Iterator[list[Hit]]:
        """The answers to each of any number of queries, in their order.

        Queries are read, encoded and answered 256 at a time, so memory does not grow with their
        number.

        Raises:
            C4CError: see ``__call__``.
        """
        asked = iter(queries)
        while batch := list(itertools.islice(asked, _BATCH)):
            yield from self._answer(batch, k)

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Text features [Q, D] of some sentences, as the backbone gives them.

        Raises:
            C4CError: a sentence is not text.
        """
        for sentence in sentences:
            if HALF.search(sentence):
                raise C4CError(f"The sentence '{sentence}' is not UTF-8 text; write it anew.")
        tower = self._text_tower()
        with torch.inference_mode():
            hidden = self.head.projections is not None
            return tower.encode_text(tower.tokenize(sentences), hidden).float()

    def close(self) -> None:
        """Let go of the tower; asked again, it is loaded again."""
        self._tower = None

    def __enter__(self) -> Searcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """How many clips are searched."""
        return len(self._clips)

    def __repr__(self) -> str:
        split = f", split '{self._config.split}'" if self._config.split else ""
        shape = f"[{len(self)}, {self.head.dim}]"
        return f"Searcher({self.cache.path}{split}: {self.head.name}, clips {shape})"

    def _answer(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return self._search.answer(queries, self.encode(queries), k)

    def _text_tower(self) -> Backbone:
        with self._lock:
            if self._tower is None:
                self._tower = _load_tower(self.cache, self._config)
            return self._tower


def _load_tower(cache: Cache, config: RetrieveConfig) -> Backbone:
    """The backbone that made the cache."""
    from c4c.extract.backbone.backbone import load_backbone
    from c4c.extract.backbone.trusted import remember, weights_of

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
    return backbone
