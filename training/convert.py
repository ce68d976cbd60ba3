"""Checkpoints in and out: the authors' files and OpenAI's to ours, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c4c.errors import C4CError
from c4c.extract.patch3d import add_patch3d
from c4c.extract.weights import config_from_state, read_weights
from c4c.files import write_atomic
from c4c.heads.authors import from_authors, shape_of, to_authors
from c4c.heads.checkpoint import HEAD, load_checkpoint, make_head, read_tensors, save_checkpoint

_PATCH3D = "visual.conv2.weight"
# open_clip's names of OpenAI's vision transformers: (width, patch, image size, D).
_KNOWN = {
    (768, 32, 224, 512): "ViT-B-32",
    (768, 16, 224, 512): "ViT-B-16",
    (1024, 14, 224, 768): "ViT-L-14",
    (1024, 14, 336, 768): "ViT-L-14-336",
}


def import_checkpoint(
    source: Path, folder: Path, overwrite: bool = False, exact_gelu: bool = False
) -> dict[str, Any]:
    """Read a file of the authors' code or of CLIP alone and write a checkpoint folder.

    Args:
        source: ``pytorch_model.bin.N``, OpenAI's archive or state dict, or safetensors.
        folder: the checkpoint to write.
        overwrite: replace a checkpoint that stands there.
        exact_gelu: the weights were trained with GELU, not CLIP's quick approximation;
            files that say so themselves are believed.

    Returns:
        What it is: ``head``, ``backbone`` (open_clip's name or ``auto``), ``patch``
        ("2d", "3d"), ``parameters`` (how many numbers), ``folder``.

    Raises:
        C4CError: no weights, not tensors only, or parameters missing or of another shape.
    """
    if folder.exists() and not overwrite:
        raise C4CError(f"{folder} is there already; name another --out or pass --overwrite.")
    if source.is_dir():
        raise C4CError(f"{source} is a folder; name the file of weights in it.")
    state, known = read_weights(source)
    try:
        name, own, clip = from_authors(state)
        backbone = check_clip(clip)
        head = make_head(name, shape_of(name, own, clip), own)
    except C4CError as error:
        raise C4CError(f"{source}: {error}") from None
    gelu = known.get("quick_gelu") or ("false" if exact_gelu else "true")
    found: dict[str, Any] = {
        "head": name,
        "backbone": known.get("model", backbone),
        "patch": "3d" if _PATCH3D in clip else "2d",
        "parameters": sum(value.numel() for value in state.values()),
    }
    info = {"model": str(found["backbone"]), "quick_gelu": gelu}
    save_checkpoint(folder, head, {"imported": found}, clip, info, head_state=own)
    return {**found, "folder": str(folder)}


def check_clip(clip: Mapping[str, Tensor]) -> str:
    """Check that these are all the parameters of a ViT CLIP; its open_clip name or ``auto``.

    Raises:
        C4CError: parameters are missing, too many, or of another shape.
    """
    from open_clip.model import CLIP

    config = config_from_state(clip)
    with torch.device("meta"):
        model = CLIP(**config, quick_gelu=True)
        if _PATCH3D in clip:
            add_patch3d(model.visual)
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    for name in sorted(wanted.keys() | clip.keys()):
        if name not in clip:
            raise C4CError(f"parameter '{name}' of CLIP is missing.")
        if name not in wanted:
            raise C4CError(f"parameter '{name}' belongs neither to CLIP nor to a head.")
        if clip[name].shape != wanted[name] or not clip[name].is_floating_point():
            raise C4CError(
                f"parameter '{name}' is {clip[name].dtype} {list(clip[name].shape)}, expected "
                f"floats {list(wanted[name])}."
            )
    vision = config["vision_cfg"]
    key = (vision["width"], vision["patch_size"], vision["image_size"], config["embed_dim"])
    return _KNOWN.get(key, "auto")


def export_checkpoint(folder: Path, target: Path, overwrite: bool = False) -> int:
    """Write a checkpoint as the authors' code reads it: ``torch.save`` of a state dict.

    Args:
        folder: the checkpoint.
        target: the file; numbers keep the precision they have in the checkpoint.
        overwrite: replace a file that stands there.

    Returns:
        How many tensors were written.

    Raises:
        C4CError: no checkpoint, no backbone in it, or the file cannot be written.
    """
    if target.exists() and not overwrite:
        raise C4CError(f"{target} is there already; name another --out or pass --overwrite.")
    checkpoint = load_checkpoint(folder)
    clip = checkpoint.backbone_state
    if clip is None:
        raise C4CError(
            f"{folder} has a head and no CLIP, and the authors' files hold both; export a "
            "checkpoint of train-e2e or of import-checkpoint."
        )
    own, _ = read_tensors(checkpoint.path / HEAD)
    state = to_authors(checkpoint.head.name, own, clip)
    write_atomic(target, lambda path: torch.save(state, path))
    return len(state)
