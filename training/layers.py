"""Layers of the two towers: those that stay as they are, and those that keep less of themselves."""

from __future__ import annotations

import re

from torch import nn

from c4c.core.errors import C4CError
from c4c.core.progress import say
from c4c.extract.backbone.backbone import Backbone

# What lies below the first transformer layer of the two towers; a 3d patch is new, so it learns.
_STEM = re.compile(
    r"^(visual\.(conv1|class_embedding|positional_embedding|ln_pre)"
    r"|visual\.trunk\.(patch_embed|cls_token|pos_embed|norm_pre|stem)"
    r"|(text\.)?(token_embedding|positional_embedding)"
    r"|text\.transformer\.embeddings)"
)
_LAYER = re.compile(
    r"^(?:(?:visual|text)\.)?(?:transformer\.resblocks|trunk\.blocks"
    r"|transformer\.encoder\.layer)\.(\d+)\."
)


def freeze(model: nn.Module, layers: int, stem_at_0: bool = False) -> None:
    """Leave the first ``layers`` transformer layers of each tower, and what lies below, as is.

    -1 freezes nothing. The authors' code freezes what lies below even for 0 (``stem_at_0``);
    otherwise 0 freezes nothing.
    """
    least = 0 if stem_at_0 else 1
    names = [name for name, _ in model.named_parameters()]
    if layers > 0 and not any(_LAYER.match(name) for name in names if name.startswith("visual.")):
        say("--freeze-layers: the vision tower has no row of layers, so all of it is trained")
    for name, parameter in model.named_parameters():
        layer = _LAYER.match(name)
        low = bool(_STEM.match(name)) or (layer is not None and int(layer.group(1)) < layers)
        parameter.requires_grad_(not (layers >= least and low))


def checkpoint_layers(backbone: Backbone) -> None:
    """Hold the input of each transformer layer for the way back, not what is inside it.

    Raises:
        C4CError: the towers cannot do that.
    """
    try:
        backbone.model.set_grad_checkpointing(True)
    except (AttributeError, NotImplementedError, AssertionError):
        raise C4CError(
            f"{backbone.name} has layers that cannot be computed again; leave --grad-checkpointing "
            "out and pass --micro-batch."
        ) from None
