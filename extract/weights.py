"""Reading CLIP weights from files without loading a pickle, and naming them by content."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from c4c.errors import C4CError
from c4c.parts import check_part

# Under which names trainers keep the weights beside other things.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# What data parallelism, compilation and the authors' model put before CLIP's names.
_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)*(clip\.)?")
# Sizes, masks and row numbers that stand beside the weights as tensors, and follow from them.
_NO_WEIGHTS = re.compile(
    r"(^|\.)(input_resolution|context_length|vocab_size|attn_mask|position_ids)$"
)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a state dict: safetensors, ``torch.save`` (tensors only) or OpenAI's JIT archive.

    Args:
        path: the file, or a checkpoint folder that holds ``backbone.safetensors``.

    Returns:
        The tensors by name (prefixes of wrappers removed) and what is known of them:
        ``quick_gelu`` ("true", "false") when the file says so, ``model`` likewise.

    Raises:
        C4CError: nothing there, or not a file of weights, or one that holds more than tensors.
    """
    if path.is_dir():
        check_part(path, "backbone.safetensors")
        path = path / "backbone.safetensors"
    if not path.is_file():
        raise C4CError(f"No weights at {path}; pass --pretrained FILE (.safetensors, .pt, .bin).")
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if _is_torchscript(path):
            state = torch.jit.load(str(path), map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
            return _plain(state), {"quick_gelu": "true"}
        state = torch.load(path, map_location="cpu", weights_only=True)
        return _plain(state), {}
    except C4CError as error:
        raise C4CError(f"{path}: {error}") from None
    except Exception as error:  # every reader has its own family of errors for a bad file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "unreadable"
        raise C4CError(
            f"{path} is not a file of weights that c4c loads (tensors only): {reason[:200]}"
        ) from None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as stream:
        state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        return _plain(state), dict(stream.metadata() or {})


def _is_torchscript(path: Path) -> bool:
    """A TorchScript archive is a zip with a ``constants.pkl`` beside the code."""
    import zipfile

    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.endswith("constants.pkl") for name in names)


def _plain(state: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, out of the wrappers that trainers put around them."""
    if isinstance(state, Mapping):
        inner = (state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping))
        state = next(inner, state)
    if not isinstance(state, Mapping) or not state:
        raise C4CError("a file of weights must hold a table of tensors; this one does not.")
    if "optimizer_state_dict" in state or {"state", "param_groups"} <= state.keys():
        raise C4CError(
            "this is the state of an optimizer (pytorch_opt.bin.N); pass the file of weights "
            "beside it (pytorch_model.bin.N)."
        )
    return {
        _PREFIXES.sub("", str(name)): value
        for name, value in state.items()
        if isinstance(value, Tensor) and not _NO_WEIGHTS.search(str(name))
    }


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Sha256 over names, shapes, types and bytes, in the names' order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def config_from_state(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The open_clip configuration of a ViT CLIP, read off the shapes of its weights.

    Raises:
        C4CError: the names are not those of OpenAI's ViT models.
    """
    try:
        patch = state["visual.conv1.weight"].shape[-1]
        tokens = state["visual.positional_embedding"].shape[0]
        width = state["ln_final.weight"].shape[0]
        return {
            "embed_dim": state["text_projection"].shape[1],
            "vision_cfg": {
                "layers": _layers(state, "visual.transformer.resblocks."),
                "width": state["visual.conv1.weight"].shape[0],
                "patch_size": patch,
                "image_size": patch * round((tokens - 1) ** 0.5),
            },
            "text_cfg": {
                "context_length": state["positional_embedding"].shape[0],
                "vocab_size": state["token_embedding.weight"].shape[0],
                "width": width,
                "heads": max(1, width // 64),
                "layers": _layers(state, "transformer.resblocks."),
            },
        }
    except KeyError as error:
        raise C4CError(f"These weights are not a ViT CLIP's: {error} is missing.") from None


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    found = {name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)}
    return len(found)
