"""Backbones: any open_clip model behind one small interface, and the shipped ``tiny``.

In: uint8 frames and sentences. Out: features as CLIP's towers give them, not normalised.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from c4c.core.device import pick_device
from c4c.core.errors import C4CError
from c4c.core.home import own_folder
from c4c.core.progress import say
from c4c.core.records import Fingerprint
from c4c.core.tensors import state_sha256
from c4c.extract.backbone.build import TINY, build_model
from c4c.extract.backbone.patch3d import encode_video, has_patch3d

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass
class Backbone:
    """A CLIP with its tokenizer and preprocessing.

    Attributes:
        model: the open_clip module; its parameters are what end-to-end training trains.
        name: open_clip's model name, or ``tiny``.
        weights: the tag, file or folder the weights came from; ``none`` for random ones.
        sha256: of the state dict as loaded, before any change of precision.
        dtype: numerics of the towers, ``float32`` or ``bfloat16``.
        image_size: side of the square input, in pixels.
        tokenizer: sentences to token ids.
        compiled: the vision tower as ``compile_vision`` made it.
    """

    model: Any
    name: str
    weights: str
    sha256: str
    dtype: str
    image_size: int
    tokenizer: Any
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD
    interpolation: str = "bicubic"
    compiled: Any = None

    @property
    def device(self) -> torch.device:
        """Where the towers are."""
        found: torch.device = next(self.model.parameters()).device
        return found

    @property
    def embed_dim(self) -> int:
        """D: channels of a final feature."""
        return int(self._projection("text").shape[1])

    @property
    def hidden_dims(self) -> tuple[int, int]:
        """Channels before the two projections: (vision width, text width)."""
        return int(self._projection("vision").shape[0]), int(self._projection("text").shape[0])

    @property
    def context_length(self) -> int:
        """The longest text in tokens, start and end included."""
        return int(self.model.context_length)

    @property
    def preprocessing(self) -> str:
        """Preprocessing as one line, for the fingerprint."""
        mean = ",".join(f"{value:.6f}" for value in self.mean)
        std = ",".join(f"{value:.6f}" for value in self.std)
        return f"resize {self.image_size} {self.interpolation} antialias, crop, {mean} / {std}"

    def fit(self, pixels: Tensor) -> Tensor:
        """Resize the short side and crop the middle, still in bytes.

        Args:
            pixels: uint8 [n, H, W, 3].

        Returns:
            uint8 [n, 3, S, S].
        """
        from torchvision.transforms.v2 import functional as F

        images = pixels.permute(0, 3, 1, 2)
        height, width = images.shape[2:]
        size = self.image_size
        if min(height, width) != size:
            # The long side as torchvision and PIL pipelines truncate it, not rounded.
            short = min(height, width)
            target = [max(size, height * size // short), max(size, width * size // short)]
            images = F.resize(images, target, F.InterpolationMode(self.interpolation))
        if images.shape[2:] != (size, size):
            images = F.center_crop(images, [size, size])
        return images

    def preprocess(self, pixels: Tensor) -> Tensor:
        """CLIP's own preprocessing, batched: resize the short side, crop, normalise.

        Args:
            pixels: uint8 [n, H, W, 3].

        Returns:
            float [n, 3, S, S] on the backbone's device, in its precision.
        """
        images = self.fit(pixels)
        scaled = images.to(self.device).float().div_(255)
        mean = torch.tensor(self.mean, device=self.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=self.device).view(1, 3, 1, 1)
        return scaled.sub_(mean).div_(std).to(PRECISIONS[self.dtype])

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
        with self._without_projection("visual") if hidden else contextlib.nullcontext():
            if self.compiled is None:
                features: Tensor = self.model.visual(images)
            else:  # one layout, or it would be compiled for each
                features = self.compiled(images.contiguous())
        return features

    def compile_vision(self, batch: int, hidden: bool = False) -> None:
        """Compile the vision tower for batches of this size; frozen, so never for training.

        A tower with a 3d patch, whose clips differ in length, stays as it is.

        Raises:
            C4CError: it cannot be compiled here.
        """
        if has_patch3d(self.model.visual) or self.compiled is not None:
            return
        say(f"compiling {self.name}: this may take a minute")
        # What was compiled before is loaded from there as it is, code and pickles; torch's own
        # choice is a folder in /tmp that another user can have made.
        own = own_folder("XDG_CACHE_HOME", ".cache")
        if own:
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(own / "compiled"))
        self.compiled = torch.compile(self.model.visual, options={"freezing": True})
        blank = torch.zeros(batch, self.image_size, self.image_size, 3, dtype=torch.uint8)
        images = self.preprocess(blank)  # outside, as in an extraction
        try:
            with torch.inference_mode():
                self.encode_frames(images, hidden)
        except Exception as error:  # the compiler has many types of its own
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise C4CError(
                f"{self.name} cannot be compiled here ({reason}); leave out --compile."
            ) from None

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
        with self._without_projection("visual") if hidden else contextlib.nullcontext():
            return encode_video(self.model.visual, video, lengths)

    def tokenize(self, texts: Sequence[str], max_words: int | None = None) -> Tensor:
        """Token ids, int64 [n, L] with L = ``max_words`` (start and end included) at most."""
        length = min(max_words or self.context_length, self.context_length)
        tokens: Tensor = self.tokenizer(list(texts), context_length=length)
        return tokens

    def encode_text(self, tokens: Tensor, hidden: bool = False) -> Tensor:
        """Features of tokenised sentences.

        Args:
            tokens: int64 [n, L] from ``tokenize``.
            hidden: stop before the projection.

        Returns:
            [n, D], or [n, text width] when ``hidden``; not normalised.
        """
        model = self.model
        tokens = tokens.to(self.device)
        ends = tokens.argmax(dim=-1)
        # Causal attention: what stands behind the end token cannot reach it.
        tokens = tokens[:, : int(ends.max()) + 1] if len(tokens) else tokens
        length = tokens.shape[1]
        dtype = model.token_embedding.weight.dtype
        x = model.token_embedding(tokens) + model.positional_embedding[:length].to(dtype)
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length].to(dtype))
        # The last norm acts on each token alone: only the end token is needed.
        x = model.ln_final(x[torch.arange(len(tokens), device=x.device), ends])
        if hidden:
            features: Tensor = x
            return features
        projected: Tensor = x @ self._projection("text").to(x.dtype)
        return projected

    def head_init(self) -> dict[str, Tensor]:
        """What heads start from: CLIP's text transformer, positions, scale and projections.

        Returns:
            float32 tensors on the CPU: ``logit_scale``, ``positional_embedding`` [L, W],
            ``resblocks.<i>.…`` under open_clip's names, ``visual_proj`` [Wv, D],
            ``text_proj`` [Wt, D].
        """
        found = {
            name.removeprefix("transformer."): value
            for name, value in self.model.state_dict().items()
            if name.startswith("transformer.resblocks.")
            or name in ("logit_scale", "positional_embedding")
        }
        found["visual_proj"] = self._projection("vision")
        found["text_proj"] = self._projection("text")
        return {name: value.detach().float().cpu().clone() for name, value in found.items()}

    def fingerprint(
        self,
        sampling: str,
        decoder: str,
        features: str = "final",
        batch: int | None = None,
        compiled: bool = False,
    ) -> Fingerprint:
        """What a cache made with this backbone records of it."""
        return Fingerprint(
            model=self.name,
            weights=self.weights,
            sha256=self.sha256,
            preprocessing=self.preprocessing,
            sampling=sampling,
            decoder=decoder,
            dtype=self.dtype,
            features=features,
            batch=batch,
            compiled=compiled and not has_patch3d(self.model.visual),
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
        gelu = "true" if uses_quick_gelu(self.model) else "false"
        metadata = {"model": self.name, "quick_gelu": gelu, "format": "pt"}
        write_atomic(path, lambda target: save_file(state, target, metadata))

    def _projection(self, tower: str) -> Tensor:
        model = self.model
        found: Tensor | None = model.visual.proj if tower == "vision" else model.text_projection
        if found is None:
            raise C4CError(f"{self.name} has no {tower} projection; use a ViT CLIP.")
        return found

    @contextlib.contextmanager
    def _without_projection(self, tower: str) -> Iterator[None]:
        visual = self.model.visual
        projection, visual.proj = visual.proj, None
        try:
            yield
        finally:
            visual.proj = projection


def load_backbone(
    name: str = "ViT-B-32",
    pretrained: str | None = None,
    device: str | None = None,
    precision: str = "auto",
) -> Backbone:
    """Load a CLIP.

    Args:
        name: an open_clip model name, or ``tiny``; ``auto`` reads the shape of OpenAI-named
            ViT weights off ``pretrained``.
        pretrained: an open_clip tag, a file of weights, a checkpoint folder with a backbone,
            or ``none`` for random weights (from torch's seed). By default OpenAI's weights,
            and for ``tiny`` the shipped ones.
        device: ``cpu``, ``cuda``, ``cuda:1``; by default a GPU when there is one.
        precision: ``float32``, ``bfloat16``, or ``auto`` for the fastest safe one here.

    Raises:
        C4CError: unknown model, no weights, or weights that do not fit the model.
    """
    pretrained = pretrained or ("shipped" if name == TINY else "openai")
    place = pick_device(device)
    model: Any
    model, tokenizer = build_model(name, pretrained)
    dtype = _resolve_precision(precision, place, name)
    sha256 = state_sha256(model.state_dict())
    model = model.to(place, PRECISIONS[dtype]).eval()
    size = model.visual.image_size
    backbone = Backbone(
        model=model,
        name=name,
        weights=pretrained,
        sha256=sha256,
        dtype=dtype,
        image_size=size[0] if isinstance(size, (tuple, list)) else size,
        tokenizer=tokenizer,
    )
    _take_preprocessing(backbone, model)
    return backbone


def _take_preprocessing(backbone: Backbone, model: Any) -> None:
    """Mean, deviation and interpolation as the weights were trained with."""
    settings = getattr(model.visual, "preprocess_cfg", None) or {}
    backbone.mean = tuple(settings.get("mean", _MEAN))
    backbone.std = tuple(settings.get("std", _STD))
    backbone.interpolation = settings.get("interpolation", "bicubic")


def _resolve_precision(precision: str, device: torch.device, name: str) -> str:
    if precision in PRECISIONS:
        return precision
    if precision != "auto":
        raise C4CError(f"Unknown precision '{precision}'. Known: auto, {', '.join(PRECISIONS)}.")
    if name == TINY:
        return "float32"  # too small to gain, and its features should be the same everywhere
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def uses_quick_gelu(model: nn.Module) -> bool:
    """Whether the towers use OpenAI's sigmoid approximation of GELU."""
    return any(type(module).__name__ == "QuickGELU" for module in model.modules())
