"""Backbones: any open_clip model behind one small interface, and the shipped ``tiny``.

In: uint8 frames and sentences. Out: features as CLIP's towers give them, not normalised.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.core.progress import say
from c4c.core.records import Fingerprint
from c4c.extract.backbone import towers
from c4c.extract.backbone.build import TINY
from c4c.extract.backbone.patch3d import encode_video, has_patch3d
from c4c.extract.backbone.preprocessing import Preprocessing
from c4c.extract.backbone.text import DTYPES
from c4c.extract.backbone.tokens import context_length
from c4c.extract.backbone.towers import Engine


@dataclass
class Backbone:
    """A CLIP with its tokenizer and preprocessing.

    Attributes:
        model: the open_clip module; its parameters are what end-to-end training trains.
        name: open_clip's model name, or ``tiny``.
        weights: the tag, file or folder the weights came from; ``none`` for random ones.
        sha256: of the state dict as loaded, before any change of precision.
        dtype: numerics of the vision tower: ``float32``, ``bfloat16`` or ``int8``.
        tokenizer: sentences to token ids.
        preprocessing: what is done to frames: size, resizing, mean and deviation.
        origin: who says that it is this preprocessing.
        engine: what computes the vision tower; ``None`` is torch.
        file: where the weights are, when they are in a file.
    """

    model: Any
    name: str
    weights: str
    sha256: str
    dtype: str
    tokenizer: Any
    preprocessing: Preprocessing
    origin: str = ""
    engine: Engine | None = None
    file: Path | None = None

    @property
    def device(self) -> torch.device:
        """Where the towers are."""
        found: torch.device = next(self.model.parameters()).device
        return found

    @property
    def backend(self) -> str:
        """What computes the vision tower: ``torch``, ``openvino`` or ``compile``."""
        return self.engine.backend if self.engine else "torch"

    @property
    def embed_dim(self) -> int:
        """D: channels of a final feature."""
        return towers.embed_dim(self.model)

    @property
    def hidden_dims(self) -> tuple[int, int]:
        """Channels before the two projections: (vision width, text width).

        Raises:
            C4CError: a tower ends in no projection.
        """
        vision, text = self._projection("vision"), self._projection("text")
        return len(vision.matrix()), len(text.matrix())

    @property
    def context_length(self) -> int:
        """The longest text in tokens, start and end included."""
        known = self.name not in (TINY, "auto")
        return context_length(self.name) if known else int(self.model.context_length)

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels.

        Raises:
            C4CError: it is not square.
        """
        height, width = self.preprocessing.fit.shape
        if height != width:
            raise C4CError(f"{self.name} takes frames of {height} x {width}: no square.")
        return height

    def fit(self, pixels: Tensor) -> Tensor:
        """Resize, and crop or pad, still in bytes.

        Args:
            pixels: uint8 [n, H, W, 3].

        Returns:
            uint8 [n, 3, height, width] of the tower's input.
        """
        return self.preprocessing.resized(pixels)

    def preprocess(self, pixels: Tensor) -> Tensor:
        """What the weights were trained with, batched: resize, crop or pad, normalise.

        Args:
            pixels: uint8 [n, H, W, 3].

        Returns:
            float [n, 3, height, width] on the backbone's device, in its precision.
        """
        own = self.engine.dtype if self.engine else None
        dtype = own or DTYPES[self.dtype]
        return self.preprocessing.normalised(self.fit(pixels), self.device, dtype)

    def encode_frames(self, images: Tensor, hidden: bool = False) -> Tensor:
        """Features of frames.

        Args:
            images: float [n, 3, S, S] from ``preprocess``.
            hidden: stop before the projection.

        Returns:
            [n, D], or [n, vision width] when ``hidden``; not normalised, with the graph
            when gradients are on.
        """
        if has_patch3d(self.model.visual):
            raise C4CError(f"{self.name} has a 3d patch, which needs clips whole: encode_video.")
        with self._before_projection(hidden) as projection:
            if self.engine is None:
                features = self.model.encode_image(images, normalize=False)
            else:
                features = self.engine(images)
        found: Tensor = projection.completed(features) if projection else features
        return found

    def use(self, engine: Engine | None, precision: str) -> None:
        """Have ``engine`` compute the vision tower, and torch the rest in that precision."""
        self.engine, self.dtype = engine, precision
        self.model.to(DTYPES[precision])

    def encode_video(
        self, video: Tensor, lengths: Tensor | None = None, hidden: bool = False
    ) -> Tensor:
        """Features of the frames of whole clips, whichever patch embedding the tower has.

        Args:
            video: float [B, T, 3, S, S] from ``preprocess``.
            lengths: int64 [B], frames of each clip; ``None`` is T of each.
            hidden: stop before the projection.

        Returns:
            [B, T, D], or [B, T, vision width] when ``hidden``; not normalised.
        """
        if not has_patch3d(self.model.visual):
            clips, frames = video.shape[:2]
            return self.encode_frames(video.flatten(0, 1), hidden).view(clips, frames, -1)
        with self._before_projection(hidden):
            return encode_video(self.model.visual, video, lengths)

    def tokenize(self, texts: Sequence[str], max_words: int | None = None) -> Tensor:
        """Token ids, int64 [n, L], of which ``max_words`` (start and end included) count at most.

        L is that many for towers that read from left to right, else the whole context.
        """
        whole = self.context_length
        length = min(max_words or whole, whole)
        tokens: Tensor = self.tokenizer(list(texts), context_length=length)
        if length == whole or towers.is_plain_clip(self.model):
            return tokens
        return nn.functional.pad(
            tokens, (0, whole - length), value=getattr(self.tokenizer, "pad", 0)
        )

    def encode_text(self, tokens: Tensor, hidden: bool = False) -> Tensor:
        """Features of tokenised sentences.

        Args:
            tokens: int64 [n, L] from ``tokenize``.
            hidden: stop before the projection.

        Returns:
            [n, D], or [n, text width] when ``hidden``; not normalised.
        """
        before = self._projection("text") if hidden else None
        return towers.text_features(self.model, tokens.to(self.device), before)

    def head_init(self) -> dict[str, Tensor]:
        """What heads start from: CLIP's text transformer, positions, scale and projections.

        Returns:
            float32 tensors on the CPU: ``logit_scale``, ``positional_embedding`` [L, W],
            ``resblocks.<i>.…`` under open_clip's names, ``visual_proj`` [Wv, D],
            ``text_proj`` [Wt, D]; without what the towers do not have. Where the vision tower
            has no projection, ``embed_dim`` says D.
        """
        found = {"logit_scale": self.model.logit_scale, **towers.text_transformer(self.model)}
        vision, text = towers.vision_projection(self.model), towers.text_projection(self.model)
        if vision:
            found["visual_proj"] = vision.matrix()
        else:
            found["embed_dim"] = torch.tensor(self.embed_dim)
        if text:
            found["text_proj"] = text.matrix()
        return {name: value.detach().float().cpu().clone() for name, value in found.items()}

    def fingerprint(
        self,
        sampling: str,
        decoder: str,
        features: str = "final",
        batch: int | None = None,
        frames: str = "exact",
    ) -> Fingerprint:
        """What a cache made with this backbone records of it."""
        return Fingerprint(
            model=self.name,
            weights=self.weights,
            sha256=self.sha256,
            preprocessing=str(self.preprocessing),
            sampling=sampling,
            decoder=decoder,
            dtype=self.dtype,
            features=features,
            batch=batch,
            compiled=self.backend == "compile",
            tokenizer=getattr(self.tokenizer, "sha256", ""),
            frames=frames,
            backend="torch" if self.backend == "compile" else self.backend,
            calibrated=self.engine.calibrated if self.engine else "",
        )

    def save(self, path: Path, dtype: torch.dtype | None = None) -> None:
        """Write the weights as safetensors that ``load_backbone`` reads, atomically.

        Args:
            path: the file, ``….safetensors``.
            dtype: store in this precision instead of the model's own.
        """
        from safetensors.torch import save_file

        from c4c.core.files import write_atomic

        state = {
            name: value.detach().cpu().to(dtype or value.dtype).contiguous()
            for name, value in self.model.state_dict().items()
        }
        metadata = {**self.about(), "format": "pt"}
        write_atomic(path, lambda target: save_file(state, target, metadata))

    def tell_preprocessing(self) -> None:
        """Say in a line how frames are seen, where that is no matter of course."""
        if self.origin:
            say(f"{self.name} takes frames as: {self.preprocessing} ({self.origin})")

    def about(self) -> dict[str, str]:
        """What a file of the weights says of them besides their numbers."""
        gelu = "true" if towers.uses_quick_gelu(self.model) else "false"
        said = {"model": self.name, "quick_gelu": gelu}
        return {**said, "preprocessing": self.preprocessing.to_text()}

    def _projection(self, tower: str) -> towers.Projection:
        found = (
            towers.vision_projection(self.model)
            if tower == "vision"
            else towers.text_projection(self.model)
        )
        if found is None:
            raise C4CError(
                f"The {tower} tower of {self.name} ends in no linear projection, so there are no "
                "features before it; use --features final."
            )
        return found

    @contextlib.contextmanager
    def _before_projection(self, hidden: bool) -> Iterator[towers.Projection | None]:
        """While inside, the vision tower stops before its projection, if ``hidden``."""
        if not hidden:
            yield None
            return
        projection = self._projection("vision")
        with projection.left_out():
            yield projection
