"""Building CLIP models: from a name, from a file of weights, from the shapes in it."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.core.pickles import plain
from c4c.extract.backbone import tiny
from c4c.extract.backbone.hub import no_retries_offline, quiet_logs
from c4c.extract.backbone.memory import check_memory
from c4c.extract.backbone.named import create
from c4c.extract.backbone.outline import has_3d, misfit, outline
from c4c.extract.backbone.patch3d import add_patch3d
from c4c.extract.backbone.preprocessing import Preprocessing, default_tag, tag_settings
from c4c.extract.backbone.tokens import Tokenizer
from c4c.extract.backbone.weights import config_from_state, read_weights, weights_file

TINY = tiny.NAME


@dataclass(frozen=True, slots=True)
class Built:
    """A model, and what belongs to it.

    Attributes:
        model: the open_clip module.
        tokenizer: texts to token ids.
        preprocessing: what its weights were trained with.
        origin: who says so; empty where it goes without saying, as for a tag's weights.
        file: where its weights are, when they are in a file.
    """

    model: nn.Module
    tokenizer: Any
    preprocessing: Preprocessing
    origin: str
    file: Path | None


def build_model(
    name: str, pretrained: str, preprocess: str | None = None, tokenizer: Path | None = None
) -> Built:
    """The open_clip module ``name`` with weights ``pretrained``, and what belongs to it.

    Args:
        name: open_clip's name, ``tiny`` or ``auto``.
        pretrained: tag, file, checkpoint folder, ``none`` (random weights, always the
            same), or ``shipped`` of ``tiny``.
        preprocess: tag of this model whose preprocessing counts, whatever the weights say.
        tokenizer: local folder or file of the tokenizer; ``None`` is the model's own.

    Raises:
        C4CError: unknown model, no weights, or weights that do not fit the model.
    """
    with quiet_logs():
        return _build(name, pretrained, preprocess, tokenizer)


def default_weights(name: str) -> str:
    """What is meant where no weights are named."""
    import open_clip

    tags: list[str] = open_clip.list_pretrained_tags_by_model(name)
    if name == TINY:
        return "shipped"
    return "openai" if "openai" in tags or not tags else tags[0]


def needs_file(name: str, pretrained: str) -> bool:
    """Whether these weights are in a file: they are no tag of open_clip's and none of ours."""
    import open_clip

    if pretrained == "none" or (name, pretrained) == (TINY, "shipped"):
        return False
    return not open_clip.get_pretrained_cfg(name, pretrained)


def _build(name: str, pretrained: str, preprocess: str | None, local: Path | None) -> Built:
    import open_clip

    # Its other names (hf-hub:…, local-dir:…) are addresses that it fetches models from.
    if name not in (TINY, "auto", *open_clip.list_models()):
        raise C4CError(
            f"Unknown backbone '{plain(name)}'. Known: {TINY} and open_clip's names, such as "
            "ViT-B-32, ViT-B-16, ViT-L-14; c4c backbones lists them."
        )
    if local and name in (TINY, "auto"):
        raise C4CError(f"--tokenizer is for backbones of open_clip, by name; this is {name}.")
    tokenizer = Tokenizer(name, local) if local else None  # a wrong path is told before the work
    known: dict[str, str] = {}
    tag, file = None, None
    if pretrained == "none":
        check_memory(name, loaded=False)
        # Always the same, so that a run can go on and its cache can be searched.
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            model = _from_config(name, {}, {}, local)
    elif needs_file(name, pretrained):
        model, known = _from_file(name, pretrained, local)
        file = weights_file(Path(os.path.abspath(pretrained)))
    elif name == TINY:
        model, known = _from_weights(name, tiny.WEIGHTS, None)
    else:
        tag = pretrained
        model, file = _from_tag(name, pretrained, local)
    preprocessing, origin = _preprocessing(name, model, known, tag, preprocess)
    return Built(model, tokenizer or _tokenizer(name, model), preprocessing, origin, file)


def _preprocessing(
    name: str, model: Any, known: dict[str, str], tag: str | None, asked: str | None
) -> tuple[Preprocessing, str]:
    """What the weights were trained with: what was asked for, is said, or is most likely."""
    size = model.visual.image_size
    if asked is not None:
        return Preprocessing.of_open_clip(size, tag_settings(name, asked)), f"of the tag {asked}"
    if "preprocessing" in known:
        held = Preprocessing.from_text(known["preprocessing"])
        if (held.height, held.width) != Preprocessing.of_open_clip(size, {}).fit.shape:
            raise C4CError(f"The weights say that they take {held}, and {name} takes {size}.")
        return held, "as the weights say"
    if tag is None and name not in (TINY, "auto"):
        tag = default_tag(name)
        if tag is not None:
            settings = tag_settings(name, tag)
            words = f"of the tag {tag}, as the weights say nothing; --preprocess TAG names another"
            return Preprocessing.of_open_clip(size, settings), words
    settings = tag_settings(name, tag) if tag else {}
    return Preprocessing.of_open_clip(size, settings), ""


def _from_file(name: str, pretrained: str, local: Path | None) -> tuple[nn.Module, dict[str, str]]:
    import open_clip

    if os.path.exists(pretrained):
        check_memory(name, loaded=True)
        return _from_weights(name, Path(pretrained), local)
    if name in (TINY, "auto") or _looks_like_path(pretrained):
        raise C4CError(
            f"No weights at {pretrained}; pass --pretrained FILE, or 'none' for random ones."
        )
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
    raise C4CError(f"{name} has no weights called '{pretrained}', and no such file. Tags: {tags}.")


def _from_weights(name: str, path: Path, local: Path | None) -> tuple[nn.Module, dict[str, str]]:
    state, known = read_weights(path)
    try:
        model = _from_config(name, state, known, local)
        if name not in (TINY, "auto") and misfit(model, state):
            state = _converted(model, state)
    except C4CError as error:
        raise C4CError(f"{path}: {error}") from None
    if has_3d(state):
        add_patch3d(model.visual)
    _load(model, state, path)
    return model, known


def _converted(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of their authors' own code, under open_clip's."""
    from open_clip.convert import convert_state_dict

    try:
        found: dict[str, Tensor] = convert_state_dict(model, dict(state))
    except (KeyError, AttributeError, RuntimeError, ValueError, IndexError):
        return state
    return found


def _looks_like_path(text: str) -> bool:
    return "/" in text or Path(text).suffix in {".pt", ".bin", ".pth", ".safetensors"}


def _from_config(
    name: str, state: dict[str, Tensor], known: dict[str, str], local: Path | None
) -> nn.Module:
    from open_clip.model import CLIP

    if name == TINY:
        config = copy.deepcopy(tiny.CONFIG)
    elif name == "auto":
        config = config_from_state(state)
        # Only a model that has the very shapes of the file is given memory.
        reason = misfit(outline(state), state)
        if reason:
            raise C4CError(f"These weights are not a ViT CLIP's: {reason}.")
        config["quick_gelu"] = True
    else:
        quick = known.get("quick_gelu") == "true"
        return create(name, local, force_quick_gelu=quick)
    if "quick_gelu" in known:
        config["quick_gelu"] = known["quick_gelu"] == "true"
    model: nn.Module = CLIP(**config)
    return model


def _load(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    reason = misfit(model, state)
    if reason:
        raise C4CError(f"{path} does not fit the backbone: {reason}; is --backbone right?")
    model.load_state_dict({key: state[key].float() for key in model.state_dict()})


def _from_tag(name: str, tag: str, local: Path | None) -> tuple[nn.Module, Path]:
    """The model of a tag, and where its weights are."""
    import open_clip

    known = open_clip.get_pretrained_cfg(name, tag)
    check_memory(name, loaded=True)
    try:
        with no_retries_offline():
            file = Path(open_clip.download_pretrained(known))
    except Exception as error:  # the hub client has a family of errors of its own
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else "no answer"
        raise C4CError(
            f"The weights '{tag}' of {name} cannot be had ({reason}). Download them elsewhere and "
            "pass --pretrained FILE, or use --backbone tiny."
        ) from None
    quick = bool(known.get("quick_gelu"))
    model = create(name, local, pretrained=tag, force_quick_gelu=quick, weights_only=True)
    return model, file


def _tokenizer(name: str, model: Any) -> Any:
    import open_clip

    if name == TINY:
        return tiny.TinyTokenizer()
    if name != "auto":
        return Tokenizer(name)
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
