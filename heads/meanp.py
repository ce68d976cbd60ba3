"""meanP: the mean of the frames, no order and no parameters (CLIP4Clip, section 3.3)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from c4c.core.records import FeatureBatch
from c4c.heads.base import Head


class MeanP(Head):
    """Unit frames, averaged and normalised; on frozen features it is zero-shot CLIP."""

    name: ClassVar[str] = "meanP"
    sees_order: ClassVar[bool] = False
    trainable: ClassVar[bool] = False
    in_authors_code: ClassVar[bool] = True

    def contextualise(self, batch: FeatureBatch) -> Tensor:
        """The frames as they are, [B, T, D]."""
        return batch.features
