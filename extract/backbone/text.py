"""The text tower of a CLIP alone, which is all that a search by sentences needs.

The whole backbone takes open_clip, which imports torchvision and timm, and random numbers for
every weight: seconds before the first answer. Here a plain CLIP's text tower is built without
numbers and given those of its file, mapped into memory. Towers that open_clip holds apart from
the vision tower (SigLIP, PE-Core, MobileCLIP, CoCa and others) are built by its own code, likewise
without numbers: the vision tower is neither built nor read. What they compute is bit-equal to the
whole backbone (a test holds them to that), to which other text towers are left.

The weights are known before anything is built: by the hash of their file, or of its stamp
(``trusted.py``).
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from c4c.core.device import pick_device
from c4c.core.errors import C4CError
from c4c.core.files import read_json
from c4c.core.records import Fingerprint
from c4c.core.tensors import state_sha256
from c4c.extract.backbone import tiny, towers
from c4c.extract.backbone.blank import filled
from c4c.extract.backbone.precisions import PRECISIONS
from c4c.extract.backbone.tokens import Tokenizer
from c4c.extract.backbone.trusted import named_weights, tokenizer_of
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
        model: the tower; ``context_length`` is its longest text in tokens.
        tokenizer: sentences to token ids.
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        self._model: Any = model
        self.tokenizer = tokenizer

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids, int64 [n, L]."""
        tokens: Tensor = self.tokenizer(list(texts), context_length=self._model.context_length)
        return tokens

    def encode_text(self, tokens: Tensor, hidden: bool = False) -> Tensor:
        """Features of tokenised sentences.

        Args:
            tokens: int64 [n, L] from ``tokenize``.
            hidden: stop before the projection.

        Returns:
            [n, D], or [n, text width] when ``hidden``; not normalised.
        """
        device = next(self._model.parameters()).device
        before = towers.text_projection(self._model) if hidden else None
        return towers.text_features(self._model, tokens.to(device), before)


@torch.inference_mode(False)  # as ``load_backbone``
def open_text_tower(made: Fingerprint, asked: str | None, device: str | None) -> TextTower | None:
    """The text tower of the weights that made a cache.

    Args:
        made: the cache's fingerprint, which may be anybody's.
        asked: weights that the user names now; ``None`` is those of the cache.
        device: where it runs; ``None`` takes a GPU when there is one.

    Returns:
        ``None`` where the whole backbone is needed: for a tower that is built otherwise, weights
        of which it is not known yet, by hash, that they are those, or a tokenizer likewise.
    """
    try:
        if made.dtype not in DTYPES:
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
        model = _built(made.model, quick, state)
        tokenizer = _tokenizer(made.model, tokenizer_of(made, Path()), isinstance(model, _Apart))
    except (C4CError, KeyError):  # the whole backbone says in full what is wrong
        return None
    if model is None:
        return None
    return TextTower(model.to(pick_device(device), DTYPES[made.dtype]), tokenizer)


def _is_of_text(name: str) -> bool:
    other = name.startswith(("visual.", "text_decoder."))
    return not other or name in _SHAPES_OF_VISION


# Of an unnamed model the shapes tell everything, those of the vision tower too.
_SHAPES_OF_VISION = ("visual.conv1.weight", "visual.positional_embedding")


def _built(name: str, quick: bool, state: dict[str, Tensor]) -> nn.Module | None:
    """The tower with its weights; ``None``: it is of another kind, or they do not fit it."""
    if name == tiny.NAME:
        return _plain(_Shape.of(tiny.CONFIG), quick, state)
    if name == "auto":
        shape = _Shape.of(config_from_state(state))
        return _plain(shape, quick, state) if shape.words == _CLIP_WORDS else None
    package = _open_clip_folder()
    if package is None or not _NAME.fullmatch(name):
        return None
    config = read_json(package / "model_configs" / f"{name}.json")
    if config.get("custom_text") and "hf_model_name" not in config["text_cfg"]:
        return _apart(config, quick, state)
    if config.keys() - _PLAIN or config["text_cfg"].keys() - _PLAIN_TEXT:
        return None
    return _plain(_Shape.of(config), quick, state)


def _open_clip_folder() -> Path | None:
    """Where open_clip is installed; it is not imported."""
    spec = find_spec("open_clip")
    return Path(spec.origin).parent if spec and spec.origin else None


def _tokenizer(name: str, local: Path | None, apart: bool) -> Any:
    if name == tiny.NAME:
        return tiny.TinyTokenizer()
    if local or apart:
        return Tokenizer(name, local)
    module = sys.modules.get("open_clip.tokenizer")
    if module is None:  # this one file of the package needs nothing of the rest
        folder = _open_clip_folder()
        spec = spec_from_file_location("c4c._clip_tokenizer", f"{folder}/tokenizer.py")
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.SimpleTokenizer()


def _plain(shape: _Shape, quick: bool, state: dict[str, Tensor]) -> nn.Module | None:
    """A plain CLIP's tower."""
    model = filled(lambda: _TextModel(shape, quick), state)
    if model is not None:
        mask = torch.full((shape.context, shape.context), -torch.inf).triu_(1)
        model.register_buffer("attn_mask", mask, persistent=False)
    return model


def _apart(config: dict[str, Any], quick: bool, state: dict[str, Tensor]) -> nn.Module | None:
    """A tower that open_clip holds apart from the vision tower."""
    try:  # not one of the names that open_clip promises
        from open_clip.model import _build_text_tower
    except ImportError:
        return None

    own = {name[5:]: value for name, value in state.items() if name.startswith("text.")}
    make = partial(_build_text_tower, config["embed_dim"], config["text_cfg"], quick)
    tower: Any = filled(make, own)
    if tower is None:
        return None
    if tower.attn_mask is not None:
        tower.attn_mask = tower.build_causal_mask()
    return _Apart(tower)


class _Apart(nn.Module):
    """open_clip's ``CustomTextCLIP`` and ``CoCa`` without the rest of them."""

    def __init__(self, text: Any) -> None:
        super().__init__()
        self.text, self.context_length = text, text.context_length

    def encode_text(self, tokens: Tensor, normalize: bool) -> Tensor:
        features = self.text(tokens)
        texts: Tensor = features[0] if isinstance(features, tuple) else features  # of CoCa
        return nn.functional.normalize(texts, dim=-1) if normalize else texts


class _TextModel(nn.Module):
    """A plain CLIP's text tower under open_clip's names; ``towers`` runs it."""

    def __init__(self, shape: _Shape, quick: bool) -> None:
        super().__init__()
        self.context_length = shape.context
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
