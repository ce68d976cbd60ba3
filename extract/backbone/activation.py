"""QuickGELU or GELU: the activation that a file of weights was trained with.

A state dict does not say it, and the wrong one only makes features worse. OpenAI's models have
QuickGELU; open_clip keeps the two apart by name (``ViT-B-32`` and ``ViT-B-32-quickgelu``), and so
do the caches that are made with them. What decides, in this order: the user, the name, the file's
own words, its hash, what lies beside it, what it is called.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError
from c4c.core.files import file_sha256, read_json
from c4c.core.progress import say
from c4c.core.tensors import read_safetensors
from c4c.extract.backbone.archive import open_torch
from c4c.extract.backbone.build import TINY, needs_file
from c4c.extract.backbone.weights import weights_file

QUICK = "-quickgelu"
# What OpenAI's own state dicts hold beside the weights.
_OPENAI = {"input_resolution", "context_length", "vocab_size"}
_HASH = re.compile(r"(?:^|[/-])([0-9a-f]{64}|[0-9a-f]{8})(?=/|\.pt$)")
_SMALL = 1 << 20  # bytes of a configuration


def with_activation(name: str, pretrained: str | None, quick: bool | None = None) -> str:
    """The backbone's name with the activation of its weights, which is said.

    Args:
        name: as it was asked for.
        pretrained: likewise.
        quick: what the user says of it; ``None`` is nothing.

    Returns:
        ``name``, or that of the same model with the other activation.

    Raises:
        C4CError: the user says it of weights that are known, or the model has no such form.
    """
    if name in (TINY, "auto") or not pretrained or not needs_file(name, pretrained):
        if quick is not None:
            raise C4CError(
                "--quick-gelu and --no-quick-gelu are for a --backbone of open_clip's whose "
                "weights are a file; of others the activation is known."
            )
        return name
    path = weights_file(Path(pretrained))
    if not os.path.isfile(path):
        return name  # which is said when they are loaded
    found, why = (quick, "as you say") if quick is not None else _decided(name, path)
    say(f"activation: {'QuickGELU' if found else 'GELU'}, {why}")
    if why == _OWN_WORDS:
        return name  # the model is built as its file says
    return _named(name, found)


_OWN_WORDS = "as the file says"


def _named(name: str, quick: bool) -> str:
    import open_clip

    plain = name.removesuffix(QUICK)
    wanted = plain + QUICK if quick else plain
    own = open_clip.get_model_config(name) or {}
    if bool(own.get("quick_gelu")) == quick:
        return name
    if wanted not in open_clip.list_models():
        raise C4CError(f"open_clip has no {wanted}; name another --backbone for these weights.")
    return wanted


def _decided(name: str, path: Path) -> tuple[bool, str]:
    """Whether it is QuickGELU, and what tells so."""
    said, names = _words_of(path)
    if "quick_gelu" in said:
        return said["quick_gelu"] == "true", _OWN_WORDS
    if name.endswith(QUICK):
        return True, f"as {name} has it"
    if names >= _OPENAI:
        return True, "as OpenAI's models have it, whose state dict this is"
    known = dict(_known(name))
    digest = file_sha256(path)
    for tag, settings in known.items():
        stated = _HASH.search(settings.get("url") or "")
        if stated and digest.startswith(stated[1]):
            return bool(settings.get("quick_gelu")), f"by its hash, which is that of '{tag}'"
    beside = _beside(path)
    if beside is not None:
        return beside, "as the configuration beside it says"
    for tag, settings in known.items():
        if _is_called(path, settings):
            return bool(settings.get("quick_gelu")), f"by its name, which is that of '{tag}'"
    return False, (
        f"as {name} has it: the file says nothing, and is none that is known; weights of OpenAI's, "
        "or trained with their activation, need --quick-gelu"
    )


def _words_of(path: Path) -> tuple[Mapping[str, str], set[str]]:
    """What the file says of its weights, and the names of what it holds."""
    try:
        if path.suffix == ".safetensors":
            state, said = read_safetensors(path)
            return said, set(state)
        with open_torch(path) as found:
            return {"quick_gelu": "true"} if found.is_script else {}, set(_names(found.tree))
    except Exception:  # what is wrong with the file is said when it is loaded
        return {}, set()


def _names(tree: Any) -> Iterator[str]:
    """Names in a state dict and in those one level below it."""
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        yield str(key)
        yield from map(str, value) if isinstance(value, Mapping) else ()


def _known(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tags of a model's published weights, and what open_clip knows of each."""
    import open_clip

    for tag in open_clip.list_pretrained_tags_by_model(name):
        yield tag, open_clip.get_pretrained_cfg(name, tag)


def _beside(path: Path) -> bool | None:
    """What a configuration in the same folder says: open_clip's, or that of transformers."""
    for name in ("open_clip_config.json", "config.json"):
        file = path.parent / name
        if not os.path.isfile(file):
            continue
        try:
            content = read_json(file, _SMALL)
        except C4CError:
            continue
        inner = content.get("model_cfg", content) if isinstance(content, dict) else {}
        if isinstance(inner, dict) and isinstance(inner.get("quick_gelu"), bool):
            return bool(inner["quick_gelu"])
        acts = [inner, inner.get("vision_config")] if isinstance(inner, dict) else []
        for one in acts:
            if isinstance(one, dict) and isinstance(one.get("hidden_act"), str):
                return bool(one["hidden_act"] == "quick_gelu")
        if name == "open_clip_config.json" and isinstance(inner, dict) and "vision_cfg" in inner:
            return False  # open_clip's models are plain unless they say so
    return None


def _is_called(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a file has the name that published weights are downloaded under."""
    url = str(settings.get("url") or "").rpartition("/")[2]
    hub = str(settings.get("hf_hub") or "").strip("/")
    folders = str(path.resolve().parent) + "/" + path.stem
    return path.name == url or any(one in folders for one in _spellings(hub))


def _spellings(hub: str) -> list[str]:
    """How a repository of the hub may be spelled in a path."""
    return [hub, hub.replace("/", "--"), hub.rpartition("/")[2]] if "/" in hub else []
