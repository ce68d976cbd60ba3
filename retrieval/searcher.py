"""``Searcher``: text tower, head and gallery, held together; questions in, ranked hits out.

The command line, a server and a notebook ask the same object. It may be asked by several threads
at once: what it holds is only read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.core.progress import say
from c4c.core.records import FeatureBatch
from c4c.heads import mean_of
from c4c.retrieval.answers import Answers, Wanted
from c4c.retrieval.asking import Ask
from c4c.retrieval.confidence import unrelated_sentences
from c4c.retrieval.filters import Filter
from c4c.retrieval.gallery import Gallery
from c4c.retrieval.gallery_refresh import Maker, cache_stamp, open_gallery, refresh
from c4c.retrieval.opening import RetrieveConfig, load_tower, open_head, rerank_of
from c4c.retrieval.search import ClipSearch, Hit
from c4c.retrieval.windows import Windows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from c4c.extract.backbone.backbone import Backbone

_BATCH = 256  # questions encoded at once, and the least that is answered together
MOST_HITS = 1024


class Searcher:
    """Finds the moments that sentences describe, among the clips of a cache.

    Settings have the names and defaults of ``c4c retrieve``. The gallery is made when the first
    question comes, and kept: the next searcher of the same cache and checkpoint opens it.

    Args:
        cache: a cache folder, or an open ``Cache``; ``None`` is the only one below ``c4c-cache/``.
        checkpoint: checkpoint folder; ``None`` is mean pooling, which needs none.
        split: split to search; ``None`` is all.
        whole: answer with whole clips instead of moments in them.
        window: lengths of the windows that moments are made of, in seconds.
        hop: seconds from one window to the next; ``None`` is a quarter of its length.
        shortlist: clips or moments that a tight head looks at.
        rerank: ``none`` or ``qbnorm``, which answers with whole clips.
        bank: split of QB-Norm's queries; ``None`` is that of the training, or ``train``.
        max_frames: frames of a clip; ``None`` is what the checkpoint was trained with.
        device: where head and text tower run; ``None`` takes a GPU when there is one.
        pretrained: weights for the texts; ``None`` is those that made the cache.
        tokenizer: folder or file of the tokenizer; ``None`` is the one that made the cache.

    Raises:
        C4CError: cache or checkpoint cannot be read or do not fit each other.

    Example:
        with Searcher("c4c-cache/holidays") as search:
            for hit in search("a dog runs into the sea", k=3):
                print(hit.path, hit.start, hit.end, hit.confidence)
    """

    def __init__(
        self,
        cache: str | Path | Cache | None = None,
        checkpoint: str | Path | None = None,
        *,
        split: str | None = None,
        whole: bool = False,
        window: Sequence[float] = (),
        hop: float | None = None,
        shortlist: int | None = None,
        rerank: str = "none",
        bank: str | None = None,
        max_frames: int | None = None,
        device: str | None = None,
        pretrained: str | None = None,
        tokenizer: str | Path | None = None,
    ) -> None:
        if isinstance(cache, Cache):
            cache = cache.path
        self._config = config = RetrieveConfig(
            cache=None if cache is None else Path(cache),
            checkpoint=None if checkpoint is None else Path(checkpoint),
            split=split,
            whole=whole or rerank != "none",
            window=tuple(window),
            hop=hop,
            shortlist=shortlist,
            rerank=rerank,
            bank=bank,
            max_frames=max_frames,
            device=device,
            pretrained=pretrained,
            tokenizer=None if tokenizer is None else Path(tokenizer),
        )
        if rerank == "dual-softmax":
            raise C4CError(
                "--rerank dual-softmax is for --evaluate: it needs all queries of a split."
            )
        windows = Windows(config.window, hop) if config.window else Windows(hop=hop)
        self.cache, self.head, view, self._trained = open_head(config)
        self.head.eval()
        if split is not None and split not in self.cache.splits:
            self.cache.stamps(split)  # says which ones there are
        self._loose = self.head if self.head.loose else mean_of(self.head)
        self._maker = Maker(self.cache, self.head, view, windows)
        self._lock = RLock()
        self._answers: Answers | None = None
        self._clip_search: ClipSearch | None = None
        self._tower: Backbone | None = None

    @classmethod
    def of(cls, config: RetrieveConfig) -> Searcher:
        """The searcher with the settings of a command line."""
        own = ("ties", "top_k")  # of the evaluation, and of each question
        return cls(**{f.name: getattr(config, f.name) for f in fields(config) if f.name not in own})

    def __call__(
        self,
        query: str | Ask,
        k: int = 10,
        *,
        where: Filter | None = None,
        per_video: int | None = None,
        min_confidence: float | None = None,
        missing: str = "show",
    ) -> list[Hit]:
        """The k best answers to one question, best first; fewer when there are no more.

        Args:
            query: a sentence, or an ``Ask`` of several parts.
            k: answers at most, 1 to 1024.
            where: which clips may answer.
            per_video: answers from one video at most.
            min_confidence: hits below it are left out, 0 to 1.
            missing: ``hide`` leaves hits out whose video file does not exist.

        Raises:
            C4CError: the query is empty or not text, the cache's weights are in a file that
                nobody passed here, or the cache has no clip with features.
        """
        wanted = Wanted(k, where or Filter(), per_video, min_confidence, missing == "hide")
        return self._answer([query], wanted)[0]

    def stream(
        self,
        queries: Iterable[str | Ask],
        k: int = 10,
        *,
        where: Filter | None = None,
        per_video: int | None = None,
        min_confidence: float | None = None,
        missing: str = "show",
    ) -> Iterator[list[Hit]]:
        """The answers to each of any number of questions, in their order; see ``__call__``.

        Questions are read, encoded and answered 256 at a time, so memory does not grow with
        their number.

        Raises:
            C4CError: see ``__call__``.
        """
        wanted = Wanted(k, where or Filter(), per_video, min_confidence, missing == "hide")
        asked = iter(queries)
        while batch := list(itertools.islice(asked, _BATCH)):
            yield from self._answer(batch, wanted)

    @torch.inference_mode()
    def like_picture(
        self,
        pixels: npt.NDArray[np.uint8],
        k: int = 10,
        *,
        where: Filter | None = None,
        per_video: int | None = None,
        missing: str = "show",
    ) -> list[Hit]:
        """The k answers that look most like a picture; see ``__call__``.

        They have no confidence: that is told by sentences, and pictures score higher.

        Args:
            pixels: uint8 [H, W, 3], RGB, upright.
            k: answers at most, 1 to 1024.
            where: which clips may answer.
            per_video: answers from one video at most.
            missing: ``hide`` leaves hits out whose video file does not exist.

        Raises:
            C4CError: see ``__call__``; or a tight head, which scores sentences only.
        """
        if not self.head.loose or self._config.rerank != "none":
            raise C4CError("A picture needs a head with a vector a clip, such as seqTransf.")
        tower, single = self._text_tower(), mean_of(self.head)
        images = tower.preprocess(torch.from_numpy(pixels)[None])
        features = tower.encode_frames(images, self.head.projections is not None).float()
        ones = torch.ones(1, dtype=torch.int64, device=features.device)
        vector = single.encode_clips(FeatureBatch(features[:, None], ones)).float().cpu()
        wanted = Wanted(k, where or Filter(), per_video, None, missing == "hide")
        hits = self._answering().find(["a picture"], vector, None, wanted)[0]
        return [replace(hit, confidence=None) for hit in hits]

    @torch.inference_mode()
    def frame_scores(self, query: str | Ask, video: str) -> list[tuple[float, float]]:
        """The cosine of each frame of a video with a question: (second, cosine), by time.

        Args:
            query: a sentence, or an ``Ask`` of several parts.
            video: the path of a video of the cache.

        Raises:
            C4CError: see ``__call__``; or no clip of that video has features.
        """
        vector = self._vectors([Ask.of(query)])[1][0]
        return self._answering().frame_scores(vector, video)

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Text features [Q, D] of some sentences, as the backbone gives them.

        Raises:
            C4CError: a sentence is not text.
        """
        tower = self._text_tower()
        tokens = tower.tokenize(sentences)
        # The last place is taken when a text fills all of them.
        for row in tokens[:, -1].nonzero()[:1].flatten().tolist():
            say(
                f"the sentence '{sentences[row][:60]}…' fills the text tower's "
                f"{tokens.shape[1]} tokens: what goes beyond them is not read"
            )
        return self._encoded(tokens)

    def _encoded(self, tokens: Tensor) -> Tensor:
        with torch.inference_mode():
            hidden = self.head.projections is not None
            return self._text_tower().encode_text(tokens, hidden).float()

    @property
    def gallery(self) -> Gallery:
        """The gallery; it is made or added to when the cache has changed.

        Raises:
            C4CError: the cache cannot be read, or the gallery cannot be written anywhere.
        """
        return self._answering().gallery

    def refresh(self) -> bool:
        """Take up what the cache has gained or lost, and say whether there was anything.

        Until the gallery has it, questions are answered from the gallery before.

        Raises:
            C4CError: see ``gallery``; or another cache is in its place now.
        """
        if self._answers is not None and self._answers.gallery.is_of(cache_stamp(self.cache)):
            return False
        cache = Cache.open(self.cache.path)
        if cache.owner != self.cache.owner:
            raise C4CError(f"{cache.path} is another cache now; open it anew.")
        maker = replace(self._maker, cache=cache)
        gallery = open_gallery(maker, self._unrelated)
        with self._lock:
            self.cache, self._maker = cache, maker
            self._answers = Answers(gallery, maker, self._config) if len(gallery) else None
            self._clip_search = None
        return True

    def compact(self) -> Gallery:
        """Make the gallery anew, in as few pieces as hold it, without clips that are gone.

        Raises:
            C4CError: see ``gallery``.
        """
        with self._lock:
            folder = self.gallery.folder
            self._answers = None
            refresh(folder, self._maker, self._unrelated, compact=True)
        return self.gallery

    def close(self) -> None:
        """Let go of what was loaded; asked again, it is loaded again."""
        with self._lock:
            self._answers = self._clip_search = self._tower = None

    def __enter__(self) -> Searcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        split = f", split '{self._config.split}'" if self._config.split else ""
        shapes = ""
        if self._answers is not None:
            gallery = self._answers.gallery
            shapes = f", clips [{len(gallery)}, {self.head.dim}]"
            shapes += f", windows [{gallery.windows}, {self.head.dim}]"
        return f"Searcher({self.cache.path}{split}: {self.head.name}{shapes})"

    @torch.inference_mode()
    def _answer(self, queries: Sequence[str | Ask], wanted: Wanted) -> list[list[Hit]]:
        asks = [Ask.of(query) for query in queries]
        if self._config.whole and (not self.head.loose or self._config.rerank != "none"):
            return self._answer_by_clips(asks, wanted)
        features, vectors = self._vectors(asks)  # first: weights may be missing
        return self._answering().find([ask.label for ask in asks], vectors, features, wanted)

    def _vectors(self, asks: Sequence[Ask]) -> tuple[Tensor | None, Tensor]:
        """Text features [Q, D] where all questions are plain, and unit vectors [Q, D]."""
        sentences = [sentence for ask in asks for sentence, _ in ask.parts]
        device = self.head.logit_scale.device
        features = self.encode(sentences).to(device) if sentences else None
        units = iter(() if features is None else self._loose.encode_text(features).float().cpu())
        if all(ask.is_plain for ask in asks):
            return features, torch.stack(list(units))
        if not self.head.loose:
            raise C4CError(
                f"{self.head.name} scores a sentence with a clip; a question of several parts "
                "or a video needs a head with a vector a clip, such as seqTransf."
            )
        vectors = []
        for ask in asks:
            total = sum((weight * next(units) for _, weight in ask.parts), torch.zeros(()))
            if ask.like:
                total = total + self._answering().vector_of(ask.like)
            vectors.append(torch.nn.functional.normalize(total, dim=0))
        return None, torch.stack(vectors)

    def _answer_by_clips(self, asks: Sequence[Ask], wanted: Wanted) -> list[list[Hit]]:
        """By tight heads and QB-Norm, which look at the cache's clips themselves."""
        if wanted.where or wanted.per_video or wanted.min_confidence or wanted.hide:
            raise C4CError(
                "Whole clips by a tight head or --rerank cannot be filtered; leave --whole and "
                "--rerank out, or the filters."
            )
        if not all(ask.is_plain for ask in asks):
            raise C4CError("Whole clips by a tight head or --rerank take plain sentences only.")
        with self._lock:
            if self._clip_search is None:
                config = self._config
                self._tell_pending()
                self._clip_search = ClipSearch(
                    self.head,
                    self.cache.clips(config.split, incomplete=True),
                    self._maker.view,
                    config.shortlist or 100,
                    rerank_of(config, self.cache, config.split, self._trained),
                )
        features = self.encode([ask.sentences[0] for ask in asks])
        return self._clip_search.answer([ask.label for ask in asks], features, wanted.k)

    def _answering(self) -> Answers:
        with self._lock:
            if self._answers is None:
                gallery = open_gallery(self._maker, self._unrelated)
                if not len(gallery):
                    raise C4CError("The gallery is empty: no clip of this cache has features.")
                self._tell_pending()
                self._answers = Answers(gallery, self._maker, self._config)
            return self._answers

    def _tell_pending(self) -> None:
        """A line when an extraction is still to go on: what is there is searched."""
        if not self.cache.complete:
            clips = self.cache.clips(self._config.split, incomplete=True)
            say(f"{len(clips.pending)} of {clips.expected} clips are not extracted yet")

    @torch.inference_mode()
    def _unrelated(self) -> Tensor | None:
        """Vectors [S, D] by which the gallery's confidence is told; ``None``: no text tower."""
        try:
            tokens = self._text_tower().tokenize(unrelated_sentences())
            features = self._encoded(tokens).to(self.head.logit_scale.device)
        except C4CError as error:
            if self._config.pretrained:
                raise
            say(f"hits will have no confidence, for sentences cannot be encoded: {error}")
            return None
        return self._loose.encode_text(features).float().cpu()

    def _text_tower(self) -> Backbone:
        with self._lock:
            if self._tower is None:
                self._tower = load_tower(self.cache, self._config)
            return self._tower
