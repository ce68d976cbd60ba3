"""``Searcher``: text tower, head and gallery, held together; questions in, ranked hits out.

The command line, a server and a notebook ask the same object. It may be asked by several threads
at once: what it holds is only read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.core.limits import HITS
from c4c.core.progress import say
from c4c.core.settings import from_keywords
from c4c.retrieval.answers import Answers, video_and_second
from c4c.retrieval.asking import Ask
from c4c.retrieval.encoding import Encoder
from c4c.retrieval.gallery import Gallery
from c4c.retrieval.gallery_refresh import Maker, cache_stamp, open_gallery, refresh
from c4c.retrieval.opening import SearchConfig, for_search, looks_at_clips, open_head, rerank_of
from c4c.retrieval.search import ClipSearch, Hit
from c4c.retrieval.wanted import Wanted
from c4c.retrieval.windows import Windows

if TYPE_CHECKING:
    from c4c.retrieval.page import Pixels

_BATCH = 256  # questions encoded at once, and the least that is answered together


class Searcher:
    """Finds the moments that sentences describe, among the clips of a cache.

    The gallery is made when the first question comes, and kept: the next searcher of the same
    cache and checkpoint opens it.

    Args:
        cache: a cache folder, or an open ``Cache``; ``None`` is the only one below ``c4c-cache/``.
        checkpoint: checkpoint folder; ``None`` is mean pooling, which needs none.
        settings: those of ``c4c retrieve`` by the same names and with the same defaults, such as
            ``whole``, ``window`` and ``device``; ``SearchConfig`` describes each.

    Raises:
        C4CError: cache or checkpoint cannot be read or do not fit each other.
        TypeError: a setting that does not exist.

    Example:
        with Searcher("c4c-cache/holidays") as search:
            for hit in search("a dog runs into the sea", k=3):
                print(hit.path, hit.start, hit.end, hit.confidence)
    """

    def __init__(
        self,
        cache: str | Path | Cache | None = None,
        checkpoint: str | Path | None = None,
        **settings: Any,
    ) -> None:
        folder = cache.path if isinstance(cache, Cache) else cache
        given = {"cache": folder, "checkpoint": checkpoint, **settings}
        self._open(from_keywords(SearchConfig, given))

    @classmethod
    def of(cls, config: SearchConfig) -> Searcher:
        """The searcher with the settings of a command line."""
        searcher = cls.__new__(cls)
        searcher._open(config)
        return searcher

    def _open(self, config: SearchConfig) -> None:
        self._config = config = for_search(config)
        windows = Windows(config.window, config.hop) if config.window else Windows(hop=config.hop)
        self.cache, self.head, view, self._trained = open_head(config)
        self.head.eval()
        self._by_clips = looks_at_clips(config, self.head)
        if config.split is not None and config.split not in self.cache.splits:
            self.cache.stamps(config.split)  # says which ones there are
        self.encoder = Encoder(self.cache, config, self.head, view)
        self._maker = Maker(self.cache, self.head, view, windows)
        self._lock = RLock()
        self._answers: Answers | None = None
        self._clip_search: ClipSearch | None = None

    def __call__(self, query: str | Ask, k: int = HITS, **wanted: Any) -> list[Hit]:
        """The k best answers to one question, best first; fewer when there are no more.

        Args:
            query: a sentence, or an ``Ask`` of several parts.
            k: answers at most, 1 to 1024.
            wanted: the other fields of ``Wanted``: ``where``, ``per_video``, ….

        Raises:
            C4CError: the query is empty or not text, the cache's weights are in a file that
                nobody passed here, or the cache has no clip with features.
        """
        return self.answer([query], Wanted(k, **wanted))[0]

    def stream(
        self, queries: Iterable[str | Ask], k: int = HITS, **wanted: Any
    ) -> Iterator[list[Hit]]:
        """The answers to each of any number of questions, in their order; see ``__call__``.

        Questions are read, encoded and answered 256 at a time, so memory does not grow with
        their number.

        Raises:
            C4CError: see ``__call__``.
        """
        checked = Wanted(k, **wanted)
        asked = iter(queries)
        while batch := list(itertools.islice(asked, _BATCH)):
            yield from self.answer(batch, checked)

    @torch.inference_mode()
    def answer(self, queries: Sequence[str | Ask], wanted: Wanted) -> list[list[Hit]]:
        """The answers to some questions, encoded and looked up together.

        Raises:
            C4CError: see ``__call__``.
        """
        asks = [Ask.of(query) for query in queries]
        if self._by_clips:
            return self._answer_by_clips(asks, wanted)
        # First, for weights may be missing.
        features, vectors = self.encoder.vectors(asks, self.vector_of)
        return self._answering().find([ask.label for ask in asks], vectors, features, wanted)

    @torch.inference_mode()
    def like_picture(self, pixels: Pixels, k: int = HITS, **wanted: Any) -> list[Hit]:
        """The k answers that look most like a picture; see ``__call__``.

        They have no confidence: that is told by sentences, and pictures score higher.

        Args:
            pixels: uint8 [H, W, 3], RGB, upright.
            k: answers at most, 1 to 1024.
            wanted: as ``__call__`` has it, without ``min_confidence``.

        Raises:
            C4CError: see ``__call__``; or a tight head, which scores sentences only.
        """
        checked = Wanted(k, **wanted)
        if checked.min_confidence is not None:
            raise C4CError("Answers to a picture have no confidence; leave min_confidence out.")
        if self._config.rerank != "none":
            raise C4CError("--rerank is for sentences; leave it out for a picture.")
        vector = self.encoder.picture(pixels)
        hits = self._answering().find(["a picture"], vector[None], None, checked)[0]
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
        vector = self.encoder.vectors([Ask.of(query)], self.vector_of)[1][0]
        return self._answering().frame_scores(vector, video)

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Text features [Q, D] of some sentences, as the backbone gives them.

        Raises:
            C4CError: a sentence is not text.
        """
        return self.encoder.encode(sentences)

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
        gallery = open_gallery(maker, self.encoder.unrelated)
        with self._lock:
            if self._answers is not None:
                self._answers.close()  # of a cluster there is one connection
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
            refresh(folder, self._maker, self.encoder.unrelated, compact=True)
        return self.gallery

    def close(self) -> None:
        """Let go of what was loaded; asked again, it is loaded again."""
        with self._lock:
            if self._answers is not None:
                self._answers.close()
            self._answers = self._clip_search = None
            self.encoder.close()

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *error: object) -> None:
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
    def vector_of(self, like: str) -> Tensor:
        """The unit vector [D] of a video, a picture, or a second of a video: ``VIDEO@12.5``.

        A video of the cache has its own; any other file is decoded and encoded.

        Raises:
            C4CError: there is no such video, not that second, or a tight head.
        """
        video, second = video_and_second(like)
        found = self._answering().vector_of(video, second)
        return self.encoder.of_file(video, second) if found is None else found

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
                gallery = open_gallery(self._maker, self.encoder.unrelated)
                if not len(gallery):
                    raise C4CError("The gallery is empty: no clip of this cache has features.")
                if not gallery.state.complete:
                    self._tell_pending()
                self._answers = Answers(gallery, self._maker, self._config)
            return self._answers

    def _tell_pending(self) -> None:
        """A line when an extraction is still to go on: what is there is searched."""
        if not self.cache.complete:
            clips = self.cache.clips(self._config.split, incomplete=True)
            say(f"{len(clips.pending)} of {clips.expected} clips are not extracted yet")
