"""seqTransf: a transformer over the frames, added to them (CLIP4Clip, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from c4c.core.records import FeatureBatch
from c4c.heads.base import Head, copy_positions, position_table
from c4c.heads.transformer import Transformer


class SeqTransf(Head):
    """Position embeddings and CLIP's blocks; what comes out is added to the frames."""

    name: ClassVar[str] = "seqTransf"
    in_authors_code: ClassVar[bool] = True

    def __init__(self, dim: int, positions: int, layers: int) -> None:
        super().__init__(dim, positions, layers)
        self.max_frames = positions
        self.position_embeddings = position_table(positions, dim)
        self.transformer = Transformer(dim, layers)

    def start_from(self, init: Mapping[str, Tensor]) -> None:
        """Take scale, positions and the lowest layers of CLIP's text transformer."""
        super().start_from(init)
        positions = copy_positions(self.position_embeddings, init)
        self.origin = f"{self.transformer.start_from(init)}; {positions}"

    def contextualise(self, batch: FeatureBatch) -> Tensor:
        """Frames plus the transformer's outputs, [B, T, D]."""
        frames = batch.features
        visible = batch.mask()
        # A clip without frames attends to its first, zeroed place: no NaN, and never pooled.
        visible[:, 0] = True
        placed = frames + self.position_embeddings[: frames.shape[1]]
        total: Tensor = frames + self.transformer(placed, visible)
        return total
