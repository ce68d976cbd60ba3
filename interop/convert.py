"""Checkpoints in and out: the authors' files and OpenAI's to ours, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic
from c4c.extract.backbone import tiny
from c4c.extract.backbone.build import TINY
from c4c.extract.backbone.outline import has_3d, outline
from c4c.extract.backbone.weights import config_from_state, read_weights
from c4c.heads.checkpoint import (
    BACKBONE,
    HEAD,
    load_checkpoint,
    make_head,
    read_tensors,
    save_checkpoint,
)
from c4c.interop.authors import from_authors, shape_of, to_authors

# Backbones that weights are told to be of by their shapes: open_clip's names of OpenAI's, and ours.
_NAMES = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", TINY)


def import_checkpoint(
    source: Path, folder: Path, overwrite: bool = False, exact_gelu: bool = False
) -> dict[str, Any]:
    """Read a file of the authors' code or of CLIP alone and write a checkpoint folder.

    Args:
        source: ``pytorch_model.bin.N``, OpenAI's archive or state dict, or safetensors.
        folder: the checkpoint to write.
        overwrite: replace a checkpoint that stands there.
        exact_gelu: the weights were trained with GELU, not CLIP's quick approximation, which
            is taken for granted otherwise.

    Returns:
        What it is: ``head``, ``backbone`` (what to pass as ``--backbone``: open_clip's name,
        ``tiny``, or ``auto``), ``patch`` ("2d", "3d"), ``gelu`` ("exact", "quick"),
        ``parameters`` (how many numbers),
        ``folder``.

    Raises:
        C4CError: no weights, not tensors only, parameters missing or of another shape, or the
            file says itself that it is of the other GELU.
    """
    if folder.exists() and not overwrite:
        raise C4CError(f"{folder} is there already; name another --out or pass --overwrite.")
    if source.is_dir():
        raise C4CError(f"{source} is a folder; name the file of weights in it.")
    state, known = read_weights(source)
    try:
        name, own, clip = from_authors(state)
        backbone = check_clip(clip, known.get("model"))
        head = make_head(name, shape_of(name, own, clip), own)
    except C4CError as error:
        raise C4CError(f"{source}: {error}") from None
    gelu = known.get("quick_gelu") or ("false" if exact_gelu else "true")
    if exact_gelu and gelu == "true":
        raise C4CError(f"{source} says that it is of QuickGELU; leave --exact-gelu out.")
    found: dict[str, Any] = {
        "head": name,
        "backbone": backbone,
        "patch": "3d" if has_3d(clip) else "2d",
        "gelu": "quick" if gelu == "true" else "exact",
        "parameters": sum(value.numel() for value in state.values()),
    }
    info = {"model": backbone, "quick_gelu": gelu}
    save_checkpoint(folder, head, {"imported": found}, clip, info, head_state=own)
    return {**found, "folder": str(folder)}


def check_clip(clip: Mapping[str, Tensor], named: str | None = None) -> str:
    """Check that these are all the parameters of a ViT CLIP; what its backbone is called.

    Args:
        clip: the parameters.
        named: what the file says; believed if c4c knows a backbone of that name and shape.

    Raises:
        C4CError: parameters are missing, too many, or of another shape.
    """
    config = config_from_state(clip)
    wanted = {name: value.shape for name, value in outline(clip).state_dict().items()}
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
    names = [named] if named else []
    return next((name for name in [*names, *_NAMES] if _has_shape(name, config)), "auto")


def _has_shape(name: str, config: dict[str, Any]) -> bool:
    """Whether the backbone of that name has this configuration, its vocabulary included."""
    import open_clip

    if name != TINY and name not in open_clip.list_models():  # never a folder, never the hub
        return False
    known = tiny.CONFIG if name == TINY else open_clip.get_model_config(name)
    towers = all(
        known.get(tower, {}).get(key) == value
        for tower in ("vision_cfg", "text_cfg")
        for key, value in config[tower].items()
    )
    return towers and bool(known["embed_dim"] == config["embed_dim"])


def export_checkpoint(
    folder: Path, target: Path, overwrite: bool = False, exact_gelu: bool = False
) -> int:
    """Write a checkpoint as the authors' code reads it: ``torch.save`` of a state dict.

    Args:
        folder: the checkpoint.
        target: the file; numbers keep the precision they have in the checkpoint.
        overwrite: replace a file that stands there.
        exact_gelu: write a backbone with GELU too. The file cannot say so, and the authors'
            code computes CLIP's quick approximation whatever the weights were trained with.

    Returns:
        How many tensors were written.

    Raises:
        C4CError: no checkpoint, no backbone in it, one with GELU, or the file cannot be written.
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
    try:
        check_clip(clip)
    except C4CError as error:
        raise C4CError(f"{folder}: the authors' code has no such backbone: {error}") from None
    _, told = read_tensors(checkpoint.path / BACKBONE)
    exact = told.get("quick_gelu") == "false"
    if exact and not exact_gelu:
        raise C4CError(
            f"{folder} has a backbone with exact GELU, and the authors' code always computes "
            "QuickGELU: it would give other similarities. Pass --exact-gelu to write the weights "
            "all the same, for code that computes GELU."
        )
    if exact_gelu and not exact:
        raise C4CError(f"{folder} has a backbone with QuickGELU; leave --exact-gelu out.")
    own, _ = read_tensors(checkpoint.path / HEAD)
    state = to_authors(checkpoint.head.name, own, clip)
    write_atomic(target, lambda path: torch.save(state, path))
    return len(state)
