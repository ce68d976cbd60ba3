"""A head together with what it is shown: features of clips and captions in, vectors out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from c4c.errors import C4CError
from c4c.extract.cache import Cache, CaptionFeatures, ClipFeatures
from c4c.heads import build_head
from c4c.heads.base import Head
from c4c.heads.checkpoint import load_checkpoint
from c4c.records import FeatureBatch, Fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS = Path("c4c-runs")
PLAIN = "meanP"
# Fields of a fingerprint that decide what features mean; the others may differ.
_MEANING = ("model", "sha256", "preprocessing", "features")


@dataclass(frozen=True, slots=True)
class View:
    """Which frames of a clip a head sees.

    Attributes:
        max_frames: at most; ``None`` is as many as the head takes.
        sampling: which ones when there are more.
        order: in which order.
        seed: for the order ``random``.
    """

    max_frames: int | None = None
    sampling: str = "uniform"
    order: str = "ordinary"
    seed: int = 0


@dataclass(frozen=True)
class Scorer:
    """A head, its view of clips, and CLIP's projections when the cache holds hidden features.

    Attributes:
        head: in evaluation mode.
        view: which frames it sees.
        projections: (visual [Wv, D], text [Wt, D]), or ``None`` for final features.
        source: what it was read from, in words.
    """

    head: Head
    view: View = field(default_factory=View)
    projections: tuple[Tensor, Tensor] | None = None
    source: str = PLAIN

    @property
    def device(self) -> torch.device:
        """Where the head is."""
        return self.head.logit_scale.device

    def batch(self, clips: ClipFeatures, indices: Sequence[int]) -> FeatureBatch:
        """What the head sees of some clips."""
        view = self.view
        limit = min(view.max_frames or self.head.max_frames, self.head.max_frames)
        seed = np.random.default_rng([view.seed, *(int(i) for i in indices[:1])])
        found = clips.batch(np.asarray(indices), limit, view.sampling, view.order, seed)
        features = found.features.to(self.device)
        if self.projections is not None:
            features = features @ self.projections[0].to(self.device)
        return FeatureBatch(features, found.lengths.to(self.device))

    def text(self, features: Tensor) -> Tensor:
        """Text features [Q, W] as the head takes them, [Q, D]."""
        features = features.to(self.device).float()
        return features if self.projections is None else features @ self.projections[1].to(features)

    @torch.inference_mode()
    def clip_vectors(self, clips: ClipFeatures, block: int = 256) -> Tensor:
        """A unit vector a clip, float32 [N, D] (loose heads)."""
        parts = [
            self.head.encode_clips(self.batch(clips, range(low, min(low + block, len(clips)))))
            for low in range(0, len(clips), block)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self.head.dim, device=self.device)

    @torch.inference_mode()
    def text_vectors(self, features: Tensor) -> Tensor:
        """A unit vector a text, float32 [Q, D] (loose heads)."""
        return self.head.encode_text(self.text(features))

    @torch.inference_mode()
    def scores(self, clips: ClipFeatures, text: Tensor, block: int = 64) -> Tensor:
        """Scores of every text against every clip, [Q, N], in blocks of clips.

        Cosines for loose heads, logits for tight ones.
        """
        if self.head.loose:
            return self.text_vectors(text) @ self.clip_vectors(clips).T
        taken = self.text(text)
        parts = [
            self.head(self.batch(clips, range(low, min(low + block, len(clips)))), taken)
            for low in range(0, len(clips), block)
        ]
        return torch.cat(parts, 1) if parts else torch.zeros(len(taken), 0, device=self.device)

    def describe(self) -> dict[str, Any]:
        """Head, source and view as plain data."""
        return {"head": self.head.name, "source": self.source, "view": asdict(self.view)}


def plain_scorer(cache: Cache, max_frames: int | None = None, device: str | None = None) -> Scorer:
    """meanP on a cache: zero-shot, nothing trained."""
    init = cache.head_init()
    dim = init["visual_proj"].shape[1]
    head = build_head(PLAIN, dim, init).eval().to(_place(device))
    return Scorer(head, View(max_frames), _projections(cache, init), "meanP (not trained)")


def open_scorer(cache: Cache, checkpoint: Path | None, device: str | None = None) -> Scorer:
    """The head of a checkpoint, ready for a cache.

    Args:
        cache: where features come from.
        checkpoint: its folder; ``None`` takes the newest run below ``c4c-runs`` that fits the
            cache, and meanP when there is none; a path named ``meanP`` is meanP.
        device: ``cpu``, ``cuda``; ``None`` takes a GPU when there is one.

    Raises:
        C4CError: the checkpoint is damaged, or was made on other features than the cache's.
    """
    if checkpoint is None:
        checkpoint = newest_checkpoint(cache)
    if checkpoint is None or str(checkpoint) == PLAIN:
        return plain_scorer(cache, device=device)
    found = load_checkpoint(checkpoint)
    unlike = mismatches(found.meta, cache.fingerprint)
    if unlike:
        raise C4CError(
            f"{checkpoint} was trained on other features than {cache.path} holds "
            f"({'; '.join(unlike)}); pass its own cache, or extract one with its backbone."
        )
    config = found.meta.get("config") or {}
    view = View(
        config.get("max_frames"),
        config.get("sampling", "uniform"),
        config.get("eval_order", "ordinary"),
        config.get("seed", 0),
    )
    init = cache.head_init() if cache.features == "hidden" else {}
    head = found.head.eval().to(_place(device))
    return Scorer(head, view, _projections(cache, init), str(checkpoint))


def newest_checkpoint(cache: Cache) -> Path | None:
    """The newest ``c4c-runs/*/best`` trained on features like the cache's."""
    from c4c.files import read_json

    files = sorted(RUNS.glob("*/best/checkpoint.json"), key=lambda path: -path.stat().st_mtime)
    for path in files:
        if not mismatches(read_json(path), cache.fingerprint):
            return path.parent
    return None


def mismatches(meta: Mapping[str, Any], fingerprint: Fingerprint) -> list[str]:
    """How a checkpoint's features differ in meaning from a cache's; empty when they fit.

    A checkpoint that does not say what it was trained on (an imported one) fits anything.
    """
    theirs = meta.get("fingerprint") or {}
    return [
        f"{name}: {theirs[name]}, {getattr(fingerprint, name)}"
        for name in _MEANING
        if name in theirs and theirs[name] != getattr(fingerprint, name)
    ]


def encode_texts(cache: Cache, texts: Sequence[str], device: str | None = None) -> Tensor:
    """Encode sentences with the backbone that made a cache, [Q, W] float32.

    Raises:
        C4CError: those weights cannot be had here, or are not the same any more.
    """
    from c4c.extract.backbone import load_backbone

    made = cache.fingerprint
    backbone = load_backbone(made.model, made.weights, device, made.dtype)
    if backbone.sha256 != made.sha256:
        raise C4CError(
            f"{cache.path} was made with other weights of {made.model} ({made.weights}) than "
            "are found here; give back the old ones or extract again."
        )
    with torch.inference_mode():
        parts = [
            backbone.encode_text(
                backbone.tokenize(texts[low : low + 256]), hidden=cache.features == "hidden"
            ).float()
            for low in range(0, len(texts), 256)
        ]
    return torch.cat(parts)


def owners(clips: ClipFeatures, captions: CaptionFeatures) -> np.ndarray[Any, Any]:
    """The place of each caption's clip; -1 where that clip has no features. int64."""
    place = {name: index for index, name in enumerate(clips.ids)}
    return np.array([place.get(name, -1) for name in captions.clip_ids], np.int64)


def _projections(cache: Cache, init: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    if cache.features != "hidden":
        return None
    return init["visual_proj"].float(), init["text_proj"].float()


def _place(device: str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
