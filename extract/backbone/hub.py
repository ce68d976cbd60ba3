"""What comes from the hub of models: quietly, without retries where there is no network."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

# Names under which open_clip's repositories keep their weights.
_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)


@contextlib.contextmanager
def no_retries_offline() -> Iterator[None]:
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
        constants.HF_HUB_OFFLINE = True  # what was downloaded before still loads
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Model libraries log what our own errors say in one line, or what was asked for."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def quiet_and_offline() -> Iterator[None]:
    """Both."""
    with quiet_logs(), no_retries_offline():
        yield


def downloaded(name: str, tag: str) -> bool:
    """Whether the weights of a tag are on this machine already."""
    import open_clip
    from huggingface_hub import try_to_load_from_cache

    known = open_clip.get_pretrained_cfg(name, tag)
    url = known.get("url") or ""
    if url and (Path("~/.cache/clip").expanduser() / Path(url).name).is_file():
        return True
    repository, _, file = (known.get("hf_hub") or "").rpartition("/")
    names = (file,) if file else _FILES
    found = (try_to_load_from_cache(repository, one) for one in names) if repository else ()
    return any(isinstance(one, str) for one in found)
