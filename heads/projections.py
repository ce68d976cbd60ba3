"""CLIP's two projections as a part of a head, for features that were cached before them.

Cached like that (``c4c extract --features hidden``), the projections can be tuned without a
frame being decoded: the cheapest of CLIP4Clip's fine-tunings, and a large part of its effect.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError


class Projections(nn.Module):
    """Linear maps of frames and of texts into the D channels where they are compared.

    Attributes:
        visual: [vision width, D].
        text: [text width, D].
    """

    def __init__(self, vision_width: int, text_width: int, dim: int) -> None:
        super().__init__()
        self.visual = nn.Parameter(torch.empty(vision_width, dim))
        self.text = nn.Parameter(torch.empty(text_width, dim))

    @classmethod
    def of_clip(cls, init: Mapping[str, Tensor]) -> Projections:
        """Those of the backbone.

        Args:
            init: as ``Backbone.head_init()`` or ``Cache.head_init()`` gives it.

        Raises:
            C4CError: ``init`` has none.
        """
        visual, text = init.get("visual_proj"), init.get("text_proj")
        if visual is None or text is None or {visual.ndim, text.ndim} != {2}:
            raise C4CError("The cache does not hold CLIP's projections; extract it again.")
        if visual.shape[1] != text.shape[1]:
            raise C4CError("CLIP's projections do not fit each other; extract the cache again.")
        made = cls(visual.shape[0], text.shape[0], visual.shape[1])
        with torch.no_grad():
            made.visual.copy_(visual)
            made.text.copy_(text)
        return made
