"""What c4c needs to know of open_clip's towers beyond their public methods.

Where a tower ends in a linear projection, that is found here, whatever it is called: features
can be taken before it (``--features hidden``) and heads can go on tuning it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Engine(Protocol):
    """Computes the vision tower in place of torch.

    Attributes:
        backend: ``openvino`` or ``compile``.
        calibrated: checksum of the graph that was calibrated, of int8.
        dtype: of the images that it takes; ``None`` is the backbone's own.
    """

    backend: str
    calibrated: str
    dtype: torch.dtype | None

    def __call__(self, images: Tensor) -> Tensor:
        """Features [n, D] of images [n, 3, S, S]."""


@dataclass(frozen=True, slots=True)
class Projection:
    """The last step of a tower: x to x @ weight (+ bias).

    Attributes:
        owner: the module that has it.
        name: of the attribute: a parameter [W, D], or ``nn.Linear``.
    """

    owner: Any
    name: str

    @property
    def _held(self) -> Any:
        return getattr(self.owner, self.name)

    @property
    def has_bias(self) -> bool:
        """Whether something is added; hidden features then have one more channel, which is 1."""
        return isinstance(self._held, nn.Linear) and self._held.bias is not None

    def matrix(self) -> Tensor:
        """[W, D], so that hidden @ matrix = final; the last row is the bias where there is one."""
        held = self._held
        if not isinstance(held, nn.Linear):
            weight: Tensor = held
            return weight
        rows = [held.weight.T] if held.bias is None else [held.weight.T, held.bias[None]]
        return torch.cat(rows)

    @contextlib.contextmanager
    def left_out(self) -> Iterator[None]:
        """Meanwhile the tower gives what comes before."""
        held = self._held
        setattr(self.owner, self.name, self._nothing())
        try:
            yield
        finally:
            setattr(self.owner, self.name, held)

    def _nothing(self) -> Any:
        held = self._held
        if not isinstance(held, nn.Linear) or self.name == "text_projection":
            return None  # open_clip's own towers ask whether there is one
        if self.name != "c_proj":
            return nn.Identity()
        # The attention pooling of ResNets reads its weights and never calls it.
        blank = nn.Linear(held.in_features, held.in_features)
        blank = blank.to(held.weight.device, held.weight.dtype).requires_grad_(False)
        nn.init.eye_(blank.weight)
        nn.init.zeros_(blank.bias)
        return blank

    def completed(self, hidden: Tensor) -> Tensor:
        """Hidden features with the channel that the bias is multiplied by."""
        if not self.has_bias:
            return hidden
        return torch.cat([hidden, hidden.new_ones(*hidden.shape[:-1], 1)], -1)


def vision_projection(model: Any) -> Projection | None:
    """The projection that the vision tower ends in, if it does."""
    visual = model.visual
    if isinstance(getattr(visual, "proj", None), nn.Parameter):
        return Projection(visual, "proj")
    if hasattr(visual, "attnpool"):
        return Projection(visual.attnpool, "c_proj")
    if not hasattr(visual, "trunk"):
        return None
    head = visual.head
    if hasattr(head, "proj"):
        return Projection(head, "proj")
    if hasattr(head, "mlp"):
        return Projection(head.mlp, "fc2")
    return None if len(head) else _linear_of(visual.trunk, visual.trunk.get_classifier())


def _linear_of(trunk: nn.Module, classifier: Any) -> Projection | None:
    """The classifier of timm itself, where it is a plain layer; it may be a few modules down."""
    if type(classifier) is not nn.Linear:
        return None
    path = next(path for path, module in trunk.named_modules() if module is classifier)
    owner, _, name = path.rpartition(".")
    return Projection(trunk.get_submodule(owner), name)


def text_projection(model: Any) -> Projection | None:
    """The projection that the text tower ends in, if it does."""
    text = getattr(model, "text", model)
    if hasattr(text, "text_projection"):
        held = text.text_projection
        return Projection(text, "text_projection") if held is not None else None
    last = getattr(text, "proj", None)  # of transformers' models
    if isinstance(last, nn.Sequential) and isinstance(last[-1], nn.Linear):
        return Projection(last, str(len(last) - 1))
    return Projection(text, "proj") if isinstance(last, nn.Linear) else None


def embed_dim(model: Any) -> int:
    """D: channels of final features."""
    text = getattr(model, "text", None)
    if text is not None:
        return int(text.output_dim)
    projection = text_projection(model)
    return int(projection.matrix().shape[1] if projection else model.ln_final.normalized_shape[0])


def is_plain_clip(model: Any) -> bool:
    """Whether texts are read from left to right and end in the token of the highest number.

    What stands behind the end then has no say, and need not be computed.
    """
    return (
        getattr(model, "attn_mask", None) is not None
        and getattr(model, "text_pool_type", "argmax") == "argmax"
        and isinstance(model.text_projection, nn.Parameter)
    )


def plain_clip_text(model: Any, tokens: Tensor) -> Tensor:
    """Texts of a plain CLIP, [n, W] before the projection, of the tokens that count alone."""
    ends = tokens.argmax(dim=-1)
    # Causal attention: what stands behind the end token cannot reach it.
    tokens = tokens[:, : int(ends.max()) + 1] if len(tokens) else tokens
    length = tokens.shape[1]
    dtype = model.token_embedding.weight.dtype
    x = model.token_embedding(tokens) + model.positional_embedding[:length].to(dtype)
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length].to(dtype))
    # The last norm acts on each token alone: only the end token is needed.
    features: Tensor = model.ln_final(x[torch.arange(len(tokens), device=x.device), ends])
    return features


def text_features(model: Any, tokens: Tensor, before: Projection | None = None) -> Tensor:
    """Texts of any model, [n, D], not normalised.

    Args:
        model: with ``encode_text``, or a plain CLIP.
        tokens: int64 [n, L], on its device.
        before: its projection, to stop before it: [n, W].
    """
    if is_plain_clip(model):
        x = plain_clip_text(model, tokens)
        return x if before else x @ model.text_projection.to(x.dtype)
    if before is None:
        features: Tensor = model.encode_text(tokens, normalize=False)
        return features
    with before.left_out():
        return before.completed(model.encode_text(tokens, normalize=False))


def text_transformer(model: Any) -> dict[str, Tensor]:
    """Layers and positions of the text tower, under the names of OpenAI's CLIP.

    Returns:
        ``resblocks.<i>.…`` and ``positional_embedding``; nothing of transformers' models.
    """
    found = {}
    for name, value in model.state_dict().items():
        name = name.removeprefix("text.").removeprefix("transformer.")
        if name.startswith("resblocks.") or name == "positional_embedding":
            found[name] = value
    return found


def uses_quick_gelu(model: nn.Module) -> bool:
    """Whether the towers use OpenAI's sigmoid approximation of GELU."""
    return any(type(module).__name__ == "QuickGELU" for module in model.modules())
