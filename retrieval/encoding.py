"""Sentences and pictures in, vectors out: the text tower, and where it takes it the backbone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.core.progress import say
from c4c.core.records import Clip, Frames
from c4c.heads import mean_of
from c4c.retrieval.confidence import unrelated_sentences
from c4c.retrieval.gallery_build import window_batch
from c4c.retrieval.opening import load_tower, load_whole

if TYPE_CHECKING:
    import numpy.typing as npt

    from c4c.cache.open import Cache
    from c4c.core.sampling import View
    from c4c.extract.backbone.backbone import Backbone
    from c4c.extract.backbone.text import TextTower
    from c4c.heads.base import Head
    from c4c.retrieval.asking import Ask
    from c4c.retrieval.opening import SearchConfig

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_FRAMES = 64  # of a video that is in no cache, at most: evenly spread


class Encoder:
    """Turns what is asked into vectors; what it needs is loaded when it is first needed.

    Args:
        cache: whose backbone it is.
        config: settings of the search.
        head: what the vectors are compared with.
        view: the frames of a clip that it sees.
    """

    def __init__(self, cache: Cache, config: SearchConfig, head: Head, view: View) -> None:
        self._cache, self._config, self._head, self._view = cache, config, head, view
        self._loose = head if head.loose else mean_of(head)
        self._lock = RLock()
        self._tower: TextTower | Backbone | None = None
        self._whole: Backbone | None = None

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Text features [Q, D] of some sentences, as the backbone gives them.

        Raises:
            C4CError: a sentence is not text, or the weights cannot be loaded.
        """
        tower = self._text_tower()
        tokens = tower.tokenize(sentences)
        # The last place is taken when a text fills all of them.
        pad = getattr(tower.tokenizer, "pad", 0)
        for row in (tokens[:, -1] != pad).nonzero()[:1].flatten().tolist():
            say(
                f"the sentence '{sentences[row][:60]}…' fills the text tower's "
                f"{tokens.shape[1]} tokens: what goes beyond them is not read"
            )
        return self._encoded(tokens)

    def vectors(
        self, asks: Sequence[Ask], vector_of: Callable[[str], Tensor]
    ) -> tuple[Tensor | None, Tensor]:
        """Text features [Q, D] where all questions are plain, and unit vectors [Q, D].

        Args:
            asks: the questions.
            vector_of: gives the unit vector of a video, or of a second of it.

        Raises:
            C4CError: see ``encode``; or a question of several parts for a tight head.
        """
        sentences = [sentence for ask in asks for sentence, _ in ask.parts]
        device = self._head.logit_scale.device
        features = self.encode(sentences).to(device) if sentences else None
        units = iter(() if features is None else self._loose.encode_text(features).float().cpu())
        if all(ask.is_plain for ask in asks):
            return features, torch.stack(list(units))
        if not self._head.loose:
            raise C4CError(
                f"{self._head.name} scores a sentence with a clip; a question of several parts "
                "or a video needs a head with a vector a clip, such as seqTransf."
            )
        vectors = []
        for ask in asks:
            total = sum((weight * next(units) for _, weight in ask.parts), torch.zeros(()))
            if ask.like:
                total = total + vector_of(ask.like)
            vectors.append(torch.nn.functional.normalize(total, dim=0))
        return None, torch.stack(vectors)

    def picture(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """The unit vector [D] of a picture, uint8 [H, W, 3].

        Raises:
            C4CError: a tight head, which scores sentences only.
        """
        return self._of_frames(Frames(pixels[None], np.zeros(1, np.float32)), mean_of(self._head))

    def of_file(self, path: str, second: float | None) -> Tensor:
        """The unit vector [D] of a video or picture that is in no cache, or of a second of it.

        Raises:
            C4CError: it does not exist or cannot be decoded there; or a tight head.
        """
        if not os.path.isfile(path):
            raise C4CError(
                f"--like: no clip of {path} is in {self._cache.path}, and no such file exists."
            )
        if second is None and Path(path).suffix.lower() in _PICTURES:
            from c4c.extract.video.apart import read_picture

            return self.picture(read_picture(path))
        if second is None:
            frames = _decoded(Clip(path, path), self._view.max_frames or _FRAMES)
            return self._of_frames(frames, self._head)
        frames = _decoded(Clip(path, path, max(0.0, second - 0.001), second + 1.0), 1)
        return self._of_frames(frames, mean_of(self._head))

    @torch.inference_mode()
    def _of_frames(self, frames: Frames, head: Head) -> Tensor:
        """The unit vector [D] of frames."""
        if not self._head.loose:
            raise C4CError("A picture needs a head with a vector a clip, such as seqTransf.")
        with self._lock:
            if self._whole is None:
                self._whole = load_whole(self._cache, self._config)
            backbone = self._tower = self._whole
        images = backbone.preprocess(torch.from_numpy(frames.pixels))
        features = backbone.encode_frames(images, self._head.projections is not None)
        span = np.array([[0, len(images)]], np.int32)
        held = features.float().cpu().numpy().astype(np.float16)  # as a cache holds them
        batch = window_batch((held, frames.times), span, self._view, self._head.logit_scale.device)
        return head.encode_clips(batch).float().cpu()[0]

    def unrelated(self) -> Tensor | None:
        """Vectors [S, D] by which the gallery's confidence is told; ``None``: no text tower."""
        try:
            tokens = self._text_tower().tokenize(unrelated_sentences())
            features = self._encoded(tokens).to(self._head.logit_scale.device)
        except C4CError as error:
            if self._config.pretrained:
                raise
            say(f"hits will have no confidence, for sentences cannot be encoded: {error}")
            return None
        with torch.inference_mode():
            return self._loose.encode_text(features).float().cpu()

    def close(self) -> None:
        """Let go of what was loaded; asked again, it is loaded again."""
        with self._lock:
            self._tower = self._whole = None

    def _encoded(self, tokens: Tensor) -> Tensor:
        with torch.inference_mode():
            hidden = self._head.projections is not None
            return self._text_tower().encode_text(tokens, hidden).float()

    def _text_tower(self) -> TextTower | Backbone:
        with self._lock:
            if self._tower is None:
                self._tower = load_tower(self._cache, self._config)
            return self._tower


def _decoded(clip: Clip, frames: int) -> Frames:
    """Frames of a video, one a second and not more than ``frames``."""
    from c4c.extract.video.pool import decode_many
    from c4c.extract.video.request import Request

    ((_, done),) = decode_many([clip], Request(max_frames=frames))
    if not len(done.frames):
        raise C4CError(f"--like: {clip.path}: {done.message or done.status}.")
    return done.frames
