"""How long a step of a training takes on this machine, tried on made-up inputs (for dry runs)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from c4c.core.device import pick_device
from c4c.core.records import FeatureBatch
from c4c.extract.backbone.activation import with_activation
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.heads import build_head
from c4c.training.config import TrainConfig, TrainE2EConfig
from c4c.training.losses import symmetric_cross_entropy

_PAIRS = 8  # of the batch that is tried


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found.

    Attributes:
        seconds: that a caption takes in an epoch, forwards and backwards.
        parameters: of head and, end to end, backbone.
    """

    seconds: float
    parameters: int


def try_step(config: TrainConfig, dim: int) -> Trial:
    """Take a step on a few pairs of clip and caption, twice, and time the second.

    Args:
        config: of the training, on cached features or end to end.
        dim: D of cached features.

    Raises:
        C4CError: settings that no head can have, or weights that cannot be used.
    """
    backbone = _backbone(config) if isinstance(config, TrainE2EConfig) else None
    device = backbone.device if backbone else pick_device(config.device)
    dim = backbone.embed_dim if backbone else dim
    head = build_head(config.head, dim, None, config.max_frames, config.layers).to(device).train()
    pairs, seconds = min(_PAIRS, config.batch), 0.0
    lengths = torch.full((pairs,), config.max_frames, device=device)
    for _ in range(2):  # the first warms up
        begun = time.perf_counter()
        if backbone:
            frames, texts = _encoded(backbone, pairs, config.max_frames)
        else:
            frames = torch.randn(pairs, config.max_frames, dim, device=device)
            texts = torch.randn(pairs, dim, device=device)
        loss = symmetric_cross_entropy(head(FeatureBatch(frames, lengths), texts))
        loss.backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - begun
    modules = [head, backbone.model] if backbone else [head]
    parameters = sum(one.numel() for module in modules for one in module.parameters())
    # A tight head looks at every clip of the batch for each caption.
    share = 1.0 if head.loose else config.batch / pairs
    return Trial(seconds / pairs * share, parameters)


def _backbone(config: TrainE2EConfig) -> Backbone:
    name = with_activation(config.backbone, config.pretrained)
    return load_backbone(name, config.pretrained, config.device, "float32")


def _encoded(backbone: Backbone, pairs: int, frames: int) -> tuple[Tensor, Tensor]:
    """Grey frames and a short caption through the towers: [pairs, frames, D] and [pairs, D]."""
    height, width = backbone.preprocessing.fit.shape
    pixels = torch.full((pairs * frames, height, width, 3), 128, dtype=torch.uint8)
    features = backbone.encode_frames(backbone.preprocess(pixels))
    texts = backbone.encode_text(backbone.tokenize(["a video"] * pairs))
    return features.reshape(pairs, frames, -1), texts
