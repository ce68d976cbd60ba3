"""meanP: the mean of the frames, no order and no parameters (CLIP4Clip, section 3.3)."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from c4c.core.records import FeatureBatch
from c4c.heads.base import Head


class MeanP(Head):
    """Unit frames, averaged and normalised; on frozen features it is zero-shot CLIP.

    Attributes:
        averages: ``after`` the frames are normalised, as CLIP4Clip does, or ``before``: then a
            frame counts by the length of its feature.
    """

    name: ClassVar[str] = "meanP"
    sees_order: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    in_authors_code: ClassVar[bool] = True

    averages: str = "after"

    def encode_clips(self, batch: FeatureBatch) -> Tensor:
        """One unit vector a clip, [B, D]; zeros for a clip without frames."""
        if self.averages == "after":
            return super().encode_clips(batch)
        return F.normalize(self.clean(batch).features.sum(1), dim=-1)

    def contextualise(self, batch: FeatureBatch) -> Tensor:
        """The frames as they are, [B, T, D]."""
        return batch.features
