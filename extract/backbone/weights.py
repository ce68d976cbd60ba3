"""Reading CLIP weights from files without loading a pickle, and naming them by content."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from c4c.core.errors import C4CError
from c4c.core.parts import check_part
from c4c.core.pickles import plain
from c4c.core.tensors import read_safetensors
from c4c.extract.backbone.archive import open_torch
from c4c.extract.backbone.tensor_pickles import Slice

T = TypeVar("T")

# Under which names trainers keep the weights beside other things.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# What data parallelism, compilation and the authors' model put before CLIP's names.
_PREFIXES = re.compile(r"^(module\.|_orig_mod\.)*(clip\.)?")
# Sizes, masks and row numbers that stand beside the weights as tensors, and follow from them.
_NO_WEIGHTS = re.compile(
    r"(^|\.)(input_resolution|context_length|vocab_size|attn_mask|position_ids)$"
)
# What a file of safetensors may say of its weights, in one plain word each.
_SAID, _WORD = ("quick_gelu", "model"), re.compile(r"[\w.-]{1,100}", re.ASCII)
# What a model takes beyond the numbers in its file is bounded by these: a mask of texts, layers.
_CONTEXT, _LAYERS = 4096, 256


def weights_file(path: Path) -> Path:
    """The file of weights that ``path`` means: itself, or the one in a checkpoint folder."""
    return path / "backbone.safetensors" if os.path.isdir(path) else path


def read_weights(
    path: Path, wanted: Callable[[str], bool] = bool
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a state dict: safetensors, ``torch.save`` or TorchScript, as OpenAI's files are.

    Whatever the file holds, no code in it runs, and the memory taken is at most its own size.

    Args:
        path: the file, or a checkpoint folder that holds ``backbone.safetensors``.
        wanted: says by its name whether a tensor is read.

    Returns:
        The tensors by name (prefixes of wrappers removed) and what is known of them:
        ``quick_gelu`` ("true", "false") when the file says so, ``model`` likewise, and
        ``preprocessing`` as it stands there (``Preprocessing.from_text``).

    Raises:
        C4CError: nothing there, or not a file of weights, or one that holds more than tensors.
    """
    file = weights_file(path)
    if file != path:
        check_part(path, file.name)
    path = file
    if not os.path.isfile(path):
        raise C4CError(f"No weights at {path}; pass --pretrained FILE (.safetensors, .pt, .bin).")
    try:
        if path.stat().st_size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise C4CError("it is larger than this machine's memory")
        if path.suffix == ".safetensors":
            state, said = read_safetensors(path)
            known = {key: said[key] for key in _SAID if _WORD.fullmatch(said.get(key, ""))}
            if "preprocessing" in said:
                known["preprocessing"] = said["preprocessing"]
            return _chosen(_plain(state, Tensor), wanted), known
        with open_torch(path) as found:
            state = found.tensors(_chosen(_plain(found.tree, Slice), wanted))
            return state, {"quick_gelu": "true"} if found.is_script else {}
    except C4CError as error:
        raise C4CError(f"{path}: {error}.") from None
    except PermissionError as error:
        raise C4CError(f"Cannot read {path}: {error.strerror}.") from None
    except Exception as error:  # every reader has its own family of errors for a bad file
        reason = plain(error) or type(error).__name__
        raise C4CError(
            f"{path} is damaged, or not a file of weights that c4c loads: {reason}."
        ) from None


def _chosen(state: dict[str, T], wanted: Callable[[str], bool]) -> dict[str, T]:
    return {name: value for name, value in state.items() if wanted(name)}


def _plain(state: Any, kind: type[T]) -> dict[str, T]:
    """The tensors of a state dict, out of the wrappers that trainers put around them."""
    if isinstance(state, Mapping):
        inner = (state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping))
        state = next(inner, state)
    if not isinstance(state, Mapping) or not state:
        raise C4CError("a file of weights holds a table of tensors, and this one does not")
    if "optimizer_state_dict" in state or {"state", "param_groups"} <= state.keys():
        raise C4CError(
            "it is the state of an optimizer (pytorch_opt.bin.N); pass the file of weights "
            "beside it (pytorch_model.bin.N)"
        )
    if not all(str(name).isprintable() for name in state):  # they come up in messages
        raise C4CError("the names of its tensors are no plain words")
    found = {
        _PREFIXES.sub("", str(name)): value
        for name, value in state.items()
        if isinstance(value, kind) and not _NO_WEIGHTS.search(str(name))
    }
    if not found:
        raise C4CError("its table holds no tensors")
    return found


def config_from_state(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The open_clip configuration of a ViT CLIP, read off the shapes of its weights.

    Raises:
        C4CError: the names or shapes are not those of OpenAI's ViT models.
    """
    try:
        patch = state["visual.conv1.weight"].shape[-1]
        tokens = state["visual.positional_embedding"].shape[0]
        width = state["ln_final.weight"].shape[0]
        context = state["positional_embedding"].shape[0]
        config: dict[str, Any] = {
            "embed_dim": state["text_projection"].shape[1],
            "vision_cfg": {
                "layers": _layers(state, "visual.transformer.resblocks."),
                "width": state["visual.conv1.weight"].shape[0],
                "patch_size": patch,
                "image_size": patch * math.isqrt(tokens - 1),
            },
            "text_cfg": {
                "context_length": context,
                "vocab_size": state["token_embedding.weight"].shape[0],
                "width": width,
                "heads": max(1, width // 64),
                "layers": _layers(state, "transformer.resblocks."),
            },
        }
    except KeyError as error:
        raise C4CError(f"These weights are not a ViT CLIP's: {error} is missing.") from None
    except (IndexError, ValueError):
        raise C4CError("These weights are not a ViT CLIP's: their shapes are others.") from None
    if context > _CONTEXT:
        raise C4CError(f"These weights are not a ViT CLIP's: texts of more than {_CONTEXT} tokens.")
    return config


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    found = {name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)}
    if len(found) > _LAYERS:
        raise C4CError(f"These weights are not a ViT CLIP's: {len(found)} layers.")
    return len(found)
