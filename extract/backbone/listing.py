"""The table of backbones: what open_clip's configurations say, and what is measured here."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase

import torch

from c4c.core.device import pick_device
from c4c.core.errors import C4CError
from c4c.core.pickles import plain
from c4c.core.progress import say
from c4c.extract.backbone.backbone import load_backbone
from c4c.extract.backbone.hub import downloaded
from c4c.extract.backbone.memory import sizes
from c4c.extract.backbone.preprocessing import tag_settings
from c4c.extract.backbone.tokens import context_length

HEADER = ["name", "M parameters", "channels", "words", "input", "resize", "tags", "frames/s"]
_BATCH, _SECONDS = 8, 2.0


def listed(pattern: str, device: str | None = None, measure: bool = False) -> list[list[str]]:
    """Rows of the table, smallest model first; those of unknown size come last.

    Args:
        pattern: part of a name, or a pattern with ``*`` that all of it matches.
        device: where it is measured.
        measure: add frames a second of the vision tower, in its usual precision.

    Raises:
        C4CError: no name matches.
    """
    import open_clip

    whole = pattern if any(one in pattern for one in "*?[") else f"*{pattern}*"
    names = [name for name in open_clip.list_models() if fnmatchcase(name.lower(), whole.lower())]
    if not names:
        raise C4CError(f"No backbone of open_clip matches '{plain(pattern)}'; try c4c backbones.")
    names.sort(key=lambda name: (sizes().get(name, float("inf")), name))
    rows = [_row(name) for name in names]
    if measure:
        pick_device(device)  # refused once, not for each
        rows = [[*row, _speed(name, device)] for name, row in zip(names, rows, strict=True)]
    return rows


def _row(name: str) -> list[str]:
    import open_clip

    config = open_clip.get_model_config(name)
    tags = open_clip.list_pretrained_tags_by_model(name)
    resizes = dict.fromkeys(tag_settings(name, tag)["resize_mode"] for tag in tags)
    count = sizes().get(name)
    size = config["vision_cfg"].get("image_size", 224)
    return [
        name,
        f"{count / 1e6:.0f}" if count else "?",
        str(config["embed_dim"]),
        str(context_length(name)),
        str(size),
        "/".join(resizes) or "shortest",
        " ".join(tag + "*" * downloaded(name, tag) for tag in tags) or "none",
    ]


def _speed(name: str, device: str | None) -> str:
    """Frames a second of a batch at a time; why not, where it cannot be built."""
    try:
        backbone = load_backbone(name, "none", device)
    except C4CError as error:
        say(f"{name}: {error}")
        return "–"
    height, width = backbone.preprocessing.fit.shape
    pixels = torch.zeros(_BATCH, height, width, 3, dtype=torch.uint8)
    with torch.inference_mode():
        images = backbone.preprocess(pixels)
        backbone.encode_frames(images).float().cpu()  # the first one is slow
        begun, count = time.perf_counter(), 0
        while (seconds := time.perf_counter() - begun) < _SECONDS:
            backbone.encode_frames(images).float().cpu()
            count += _BATCH
    return f"{count / seconds:.1f}"
