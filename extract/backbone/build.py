"""Building CLIP models: from a name, from a file of weights, from the shapes in it."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.core.pickles import plain
from c4c.extract.backbone import tiny
from c4c.extract.backbone.patch3d import add_patch3d
from c4c.extract.backbone.weights import config_from_state, read_weights

TINY = "tiny"
PATCH3D = "visual.conv2.weight"


def build_model(name: str, pretrained: str) -> tuple[nn.Module, Any]:
    """The open_clip module ``name`` with weights ``pretrained``, and its tokenizer.

    Raises:
        C4CError: unknown model, no weights, or weights that do not fit the model.
    """
    with _quiet_logs():
        return _build(name, pretrained)


def needs_file(name: str, pretrained: str) -> bool:
    """Whether these weights are in a file: they are no tag of open_clip's and none of ours."""
    import open_clip

    if pretrained == "none" or (name, pretrained) == (TINY, "shipped"):
        return False
    return not open_clip.get_pretrained_cfg(name, pretrained)


def _build(name: str, pretrained: str) -> tuple[nn.Module, Any]:
    import open_clip

    # Its other names (hf-hub:…, local-dir:…) are addresses that it fetches models from.
    if name not in (TINY, "auto", *open_clip.list_models()):
        raise C4CError(
            f"Unknown backbone '{plain(name)}'. Known: {TINY} and open_clip's names, such as "
            "ViT-B-32, ViT-B-16, ViT-L-14."
        )
    if pretrained == "none":
        model = _from_config(name, {}, {})
    elif needs_file(name, pretrained):
        model = _from_file(name, pretrained)
    elif name == TINY:
        model = _from_weights(name, tiny.WEIGHTS)
    else:
        model = _from_tag(name, pretrained)
    return model, _tokenizer(name, model)


def _from_file(name: str, pretrained: str) -> nn.Module:
    import open_clip

    if os.path.exists(pretrained):
        return _from_weights(name, Path(pretrained))
    if name in (TINY, "auto") or _looks_like_path(pretrained):
        raise C4CError(
            f"No weights at {pretrained}; pass --pretrained FILE, or 'none' for random ones."
        )
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
    raise C4CError(f"{name} has no weights called '{pretrained}', and no such file. Tags: {tags}.")


def _from_weights(name: str, path: Path) -> nn.Module:
    state, known = read_weights(path)
    try:
        model = _from_config(name, state, known)
    except C4CError as error:
        raise C4CError(f"{path}: {error}") from None
    if PATCH3D in state:
        add_patch3d(model.visual)
    _load(model, state, path)
    return model


def _looks_like_path(text: str) -> bool:
    return "/" in text or Path(text).suffix in {".pt", ".bin", ".pth", ".safetensors"}


def _from_config(name: str, state: dict[str, Tensor], known: dict[str, str]) -> nn.Module:
    import open_clip
    from open_clip.model import CLIP

    if name == TINY:
        config = copy.deepcopy(tiny.CONFIG)
    elif name == "auto":
        config = config_from_state(state)
        # Only a model that has the very shapes of the file is given memory.
        misfit = _misfit(outline(state), state)
        if misfit:
            raise C4CError(f"These weights are not a ViT CLIP's: {misfit}.")
        config["quick_gelu"] = True
    else:
        quick = known.get("quick_gelu") == "true"
        return open_clip.create_model(name, pretrained=None, force_quick_gelu=quick)  # type: ignore[no-any-return]
    if "quick_gelu" in known:
        config["quick_gelu"] = known["quick_gelu"] == "true"
    model: nn.Module = CLIP(**config)
    return model


def outline(state: Mapping[str, Tensor]) -> nn.Module:
    """The ViT CLIP of which these are the weights, with shapes and without numbers.

    Raises:
        C4CError: there is none of such shapes.
    """
    from open_clip.model import CLIP

    config = config_from_state(state)
    try:
        with torch.device("meta"):
            model: Any = CLIP(**config)
    except Exception as error:  # asserts, divisions by zero, what torch says of odd sizes
        raise C4CError(
            f"These weights are not a ViT CLIP's: {plain(error) or 'their shapes are others'}."
        ) from None
    if PATCH3D in state:
        with torch.device("meta"):
            add_patch3d(model.visual)
    found: nn.Module = model
    return found


def _misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """The first weight that the model needs and the state has not, or has in another shape."""
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing:
        return f"it lacks {missing[0]}"
    return f"it has {wrong[0]} of another shape" if wrong else ""


def _load(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    misfit = _misfit(model, state)
    if misfit:
        raise C4CError(f"{path} does not fit the backbone: {misfit}; is --backbone right?")
    model.load_state_dict({key: state[key].float() for key in model.state_dict()})


def _from_tag(name: str, tag: str) -> nn.Module:
    import open_clip

    known = open_clip.get_pretrained_cfg(name, tag)
    try:
        with _no_retries_offline():
            return open_clip.create_model(  # type: ignore[no-any-return]
                name,
                pretrained=tag,
                force_quick_gelu=bool(known.get("quick_gelu")),
                weights_only=True,
            )
    except Exception as error:  # the hub client has a family of errors of its own
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else "no answer"
        raise C4CError(
            f"The weights '{tag}' of {name} cannot be had ({reason}). Download them elsewhere and "
            "pass --pretrained FILE, or use --backbone tiny."
        ) from None


@contextlib.contextmanager
def _no_retries_offline() -> Iterator[None]:
    """Keep the hub client from a minute of retries where there is no network."""
    import socket
    import urllib.request
    from urllib.parse import urlparse

    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    try:
        if not urllib.request.getproxies():
            socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        constants.HF_HUB_OFFLINE = True  # weights that were downloaded before still load
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Model libraries log what our own errors say in one line, or what was asked for."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)


def _tokenizer(name: str, model: Any) -> Any:
    import open_clip

    if name == TINY:
        return tiny.TinyTokenizer()
    if name != "auto":
        return open_clip.get_tokenizer(name)
    found = open_clip.get_tokenizer("ViT-B-32")
    words = model.token_embedding.num_embeddings
    return found if words == found.vocab_size else _no_tokenizer(words, found.vocab_size)


def _no_tokenizer(words: int, clips: int) -> Any:
    """Stands for the tokenizer of weights that say nothing of theirs: frames go, texts do not."""

    def refuse(texts: Any, context_length: int) -> Any:
        raise C4CError(
            f"These weights have a vocabulary of {words} tokens, and --backbone auto has CLIP's "
            f"tokenizer of {clips}; name the backbone that they belong to."
        )

    return refuse
