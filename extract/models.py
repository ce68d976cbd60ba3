"""Building CLIP models: from a name, from a file of weights, from the shapes in it."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from c4c.errors import C4CError
from c4c.extract import tiny
from c4c.extract.patch3d import add_patch3d
from c4c.extract.weights import config_from_state, read_weights

TINY = "tiny"


def build_model(name: str, pretrained: str) -> tuple[nn.Module, Any]:
    """The open_clip module ``name`` with weights ``pretrained``, and its tokenizer.

    Raises:
        C4CError: unknown model, no weights, or weights that do not fit the model.
    """
    with _quiet_logs():
        return _build(name, pretrained)


def _build(name: str, pretrained: str) -> tuple[nn.Module, Any]:
    import open_clip

    if name not in (TINY, "auto") and open_clip.get_model_config(name) is None:
        raise C4CError(
            f"Unknown backbone '{name}'. Known: {TINY} and open_clip's names, such as ViT-B-32, "
            "ViT-B-16, ViT-L-14."
        )
    path = tiny.WEIGHTS if (name, pretrained) == (TINY, "shipped") else Path(pretrained)
    if pretrained == "none":
        model = _from_config(name, {}, {})
        return model, _tokenizer(name, model)
    if path.exists():
        state, known = read_weights(path)
        model = _from_config(name, state, known)
        if "visual.conv2.weight" in state:
            add_patch3d(model.visual)
        _load(model, state, path)
        return model, _tokenizer(name, model)
    if name in (TINY, "auto") or _looks_like_path(pretrained):
        raise C4CError(f"No weights at {path}; pass --pretrained FILE, or 'none' for random ones.")
    model = _from_tag(name, pretrained)
    return model, _tokenizer(name, model)


def _looks_like_path(text: str) -> bool:
    return "/" in text or Path(text).suffix in {".pt", ".bin", ".pth", ".safetensors"}


def _from_config(name: str, state: dict[str, Tensor], known: dict[str, str]) -> nn.Module:
    import open_clip
    from open_clip.model import CLIP

    if name == TINY:
        config = copy.deepcopy(tiny.CONFIG)
    elif name == "auto":
        config = config_from_state(state)
        config["quick_gelu"] = True
    else:
        quick = known.get("quick_gelu") == "true"
        return open_clip.create_model(name, pretrained=None, force_quick_gelu=quick)  # type: ignore[no-any-return]
    if "quick_gelu" in known:
        config["quick_gelu"] = known["quick_gelu"] == "true"
    model: nn.Module = CLIP(**config)
    return model


def _load(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing or wrong:
        what = f"lacks {missing[0]}" if missing else f"has {wrong[0]} of another shape"
        raise C4CError(f"{path} does not fit the backbone: it {what}; is --backbone right?")
    model.load_state_dict({key: state[key].float() for key in own})


def _from_tag(name: str, tag: str) -> nn.Module:
    import open_clip

    known = open_clip.get_pretrained_cfg(name, tag)
    if not known:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise C4CError(f"{name} has no weights called '{tag}', and no such file. Tags: {tags}.")
    try:
        with _no_retries_offline():
            return open_clip.create_model(  # type: ignore[no-any-return]
                name, pretrained=tag, force_quick_gelu=bool(known.get("quick_gelu"))
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
