"""A backbone by its name and weights, on a device and in a precision."""

from __future__ import annotations

from pathlib import Path

import torch

from c4c.core.device import pick_device
from c4c.core.errors import C4CError
from c4c.core.tensors import state_sha256
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.build import TINY, build_model, default_weights
from c4c.extract.backbone.text import DTYPES


# Parameters that were made in inference mode ask for no gradients, and torch multiplies them in
# another way: the last bits would depend on who loads.
@torch.inference_mode(False)
def load_backbone(
    name: str = "ViT-B-32",
    pretrained: str | None = None,
    device: str | None = None,
    precision: str = "auto",
    preprocess: str | None = None,
    tokenizer: Path | None = None,
) -> Backbone:
    """Load a CLIP.

    Args:
        name: an open_clip model name, or ``tiny``; ``auto`` reads the shape of OpenAI-named
            ViT weights off ``pretrained``.
        pretrained: an open_clip tag, a file of weights, a checkpoint folder with a backbone,
            or ``none`` for random weights (from torch's seed). By default OpenAI's weights, or
            the first that open_clip lists; for ``tiny`` the shipped ones.
        device: ``cpu``, ``cuda``, ``cuda:1``; by default a GPU when there is one.
        precision: ``float32``, ``bfloat16``, ``auto`` for the fastest safe one here, or ``int8``,
            which torch does not compute in: it loads float32.
        preprocess: tag of the same model whose preprocessing counts. By default what the weights
            say, else that of the model's tags.
        tokenizer: local folder or file of the tokenizer; by default the model's own.

    Raises:
        C4CError: unknown or too large a model, no weights, or weights that do not fit it.
    """
    pretrained = pretrained or default_weights(name)
    place = pick_device(device)
    built = build_model(name, pretrained, preprocess, tokenizer)
    dtype = resolve_precision(precision, place, name)
    sha256 = state_sha256(built.model.state_dict())
    return Backbone(
        model=built.model.to(place, DTYPES[dtype]).eval(),
        name=name,
        weights=pretrained,
        sha256=sha256,
        dtype=dtype,
        tokenizer=built.tokenizer,
        preprocessing=built.preprocessing,
        origin=built.origin,
        file=built.file,
    )


def resolve_precision(precision: str, device: torch.device, name: str) -> str:
    """The precision that ``auto`` means here.

    Raises:
        C4CError: an unknown one.
    """
    if precision in DTYPES:
        return precision
    if precision != "auto":
        raise C4CError(f"Unknown precision '{precision}'. Known: auto, {', '.join(DTYPES)}.")
    if name == TINY:
        return "float32"  # too small to gain, and its features should be the same everywhere
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"
