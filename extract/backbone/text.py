"""The text tower of a CLIP alone, which is all that a search by sentences needs.

The whole backbone takes open_clip, which imports torchvision and timm, and random numbers for
every weight: seconds before the first answer. Here a plain CLIP's text tower is built without
numbers and given those of its file, mapped into memory. What it computes is bit-equal to
open_clip's (a test holds it to that). Other text towers are left to the whole backbone.

The weights are known before anything is built: by the hash of their file, or of its stamp
(``trusted.py``).
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from c4c.core.device import pick_device
from c4c.core.errors import C4CError
from c4c.core.files import read_json
from c4c.core.records import Fingerprint
from c4c.core.tensors import state_sha256
from c4c.extract.backbone import tiny
from c4c.extract.backbone.precisions import PRECISIONS
from c4c.extract.backbone.towers import plain_clip_text
from c4c.extract.backbone.trusted import named_weights
from c4c.extract.backbone.weights import config_from_state, read_weights

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, own) for name, own in PRECISIONS.items()}
_NAME = re.compile(r"[\w.-]+", re.ASCII)
# What a configuration may say whose text tower is the plain one below.
_PLAIN = {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg", "init_logit_bias"}
_PLAIN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers"}
_CLIP_WORDS = 49408  # of CLIP's own tokenizer


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the tower of some weights is built by."""

    context: int
    words: int
    width: int
    heads: int
    layers: int
    dim: int

    @classmethod
    def of(cls, config: dict[str, Any]) -> _Shape:
        """That of an open_clip configuration."""
        text = config["text_cfg"]
        return cls(
            context=text["context_length"],
            words=text["vocab_size"],
            width=text["width"],
            heads=text["heads"],
            layers=text["layers"],
            dim=config["embed_dim"],
        )


class TextTower:
    """Sentences to features, as ``Backbone`` has it.

    Args:
        model: the tower.
        tokenizer: sentences to token ids.
        context: the longest text in tokens.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, context: int) -> None:
        self._model: Any = model
        self._tokenizer, self._context = tokenizer, context

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids, int64 [n, L]."""
        tokens: Tensor = self._tokenizer(list(texts), context_length=self._context)
        return tokens

    def encode_text(self, tokens: Tensor, hidden: bool = False) -> Tensor:
        """Features of tokenised sentences.

        Args:
            tokens: int64 [n, L] from ``tokenize``.
            hidden: stop before the projection.

        Returns:
            [n, D], or [n, text width] when ``hidden``; not normalised.
        """
        held: Tensor = self._model.text_projection
        x = plain_clip_text(self._model, tokens.to(held.device))
        return x if hidden else x @ held.to(x.dtype)


def open_text_tower(made: Fingerprint, asked: str | None, device: str | None) -> TextTower | None:
    """The text tower of the weights that made a cache.

    Args:
        made: the cache's fingerprint, which may be anybody's.
        asked: weights that the user names now; ``None`` is those of the cache.
        device: where it runs; ``None`` takes a GPU when there is one.

    Returns:
        ``None`` where the whole backbone is needed: for a tower that is not plain, or weights of
        which it is not known yet, by hash, that they are those.
    """
    try:
        if made.tokenizer or made.dtype not in DTYPES:
            return None
        if (made.model, asked or made.weights) == (tiny.NAME, "shipped"):
            state, known = read_weights(tiny.WEIGHTS)
            if state_sha256({key: value.float() for key, value in state.items()}) != made.sha256:
                return None
            quick = known.get("quick_gelu") != "false"
        else:
            named = named_weights(made.sha256, asked)
            if named is None:
                return None
            path, quick = named
            state, _ = read_weights(path, _is_of_text)
        shape = _shape(made.model, state)
    except (C4CError, KeyError):  # the whole backbone says in full what is wrong
        return None
    if shape is None:
        return None
    model = _built(shape, quick, state)
    if model is None:
        return None
    model = model.to(pick_device(device), DTYPES[made.dtype])
    return TextTower(model, _tokenizer(made.model), shape.context)


def _is_of_text(name: str) -> bool:
    return not name.startswith("visual.") or name in _SHAPES_OF_VISION


# Of an unnamed model the shapes tell everything, those of the vision tower too.
_SHAPES_OF_VISION = ("visual.conv1.weight", "visual.positional_embedding")


def _shape(name: str, state: dict[str, Tensor]) -> _Shape | None:
    """The shape of a plain text tower; ``None``: it is none, or not known."""
    if name == tiny.NAME:
        return _Shape.of(tiny.CONFIG)
    if name == "auto":
        shape = _Shape.of(config_from_state(state))
        return shape if shape.words == _CLIP_WORDS else None
    package = _open_clip_folder()
    if package is None or not _NAME.fullmatch(name):
        return None
    config = read_json(package / "model_configs" / f"{name}.json")
    if config.keys() - _PLAIN or config["text_cfg"].keys() - _PLAIN_TEXT:
        return None
    return _Shape.of(config)


def _open_clip_folder() -> Path | None:
    """Where open_clip is installed; it is not imported."""
    spec = find_spec("open_clip")
    return Path(spec.origin).parent if spec and spec.origin else None


def _tokenizer(name: str) -> Any:
    if name == tiny.NAME:
        return tiny.TinyTokenizer()
    module = sys.modules.get("open_clip.tokenizer")
    if module is None:  # this one file of the package needs nothing of the rest
        folder = _open_clip_folder()
        spec = spec_from_file_location("c4c._clip_tokenizer", f"{folder}/tokenizer.py")
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.SimpleTokenizer()


class _Blank(TorchFunctionMode):
    """Inside, modules are made without numbers: drawing some takes time, and imports a compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "zero_", "fill_"):
            return args[0] if args else kwargs["tensor"]
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _built(shape: _Shape, quick: bool, state: dict[str, Tensor]) -> nn.Module | None:
    """The tower with its weights; ``None`` when they do not fit it."""
    with torch.device("meta"), _Blank():  # shapes alone
        model = _TextModel(shape, quick)
    try:
        own = {key: state[key].float() for key in model.state_dict()}
        model.load_state_dict(own, assign=True)
    except (KeyError, RuntimeError):
        return None
    model.attn_mask = torch.full((shape.context, shape.context), -torch.inf).triu_(1)
    # Parameters ask for gradients as those of a whole backbone do: torch multiplies a batch in
    # another way where they do not, and the last bits would differ.
    return model.eval()


class _TextModel(nn.Module):
    """A plain CLIP's text tower under open_clip's names; ``plain_clip_text`` runs it."""

    def __init__(self, shape: _Shape, quick: bool) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(shape.words, shape.width)
        self.positional_embedding = nn.Parameter(torch.empty(shape.context, shape.width))
        self.transformer = _Layers(shape, quick)
        self.ln_final = nn.LayerNorm(shape.width)
        self.text_projection = nn.Parameter(torch.empty(shape.width, shape.dim))
        self.register_buffer("attn_mask", None, persistent=False)


class _Layers(nn.Module):
    def __init__(self, shape: _Shape, quick: bool) -> None:
        super().__init__()
        blocks = (_Block(shape.width, shape.heads, quick) for _ in range(shape.layers))
        self.resblocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, attn_mask: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, attn_mask)
        return x


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, quick: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            c_fc=nn.Linear(width, 4 * width),
            gelu=_QuickGELU() if quick else nn.GELU(),
            c_proj=nn.Linear(4 * width, width),
        )
        self.mlp = nn.Sequential(layers)

    def forward(self, x: Tensor, attn_mask: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=attn_mask)[0]
        more: Tensor = self.mlp(self.ln_2(x))
        return x + more


class _QuickGELU(nn.Module):
    """OpenAI's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)
