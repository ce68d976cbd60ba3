"""What the shapes of weights say of the module that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.core.pickles import plain
from c4c.extract.backbone.patch3d import add_patch3d
from c4c.extract.backbone.weights import config_from_state

PATCH3D = "visual.conv2.weight"


def has_3d(state: Mapping[str, Tensor]) -> bool:
    """Whether these are weights with a 3d patch; ResNets have a flat layer of the same name."""
    return PATCH3D in state and state[PATCH3D].ndim == 5


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
    if has_3d(state):
        with torch.device("meta"):
            add_patch3d(model.visual)
    found: nn.Module = model
    return found


def misfit(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """The first weight that the model needs and the state has not, or has in another shape."""
    own = model.state_dict()
    missing = [key for key in own if key not in state]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    if missing:
        return f"it lacks {missing[0]}"
    return f"it has {wrong[0]} of another shape" if wrong else ""
