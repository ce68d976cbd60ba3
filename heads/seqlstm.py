"""seqLSTM: an LSTM over the frames, added to them (CLIP4Clip, section 3.3, "sequential")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from c4c.core.records import FeatureBatch
from c4c.heads.base import Head, copy_positions, position_table


class SeqLSTM(Head):
    """One LSTM layer; its outputs are added to the frames before the mean.

    The authors' model also holds a position table that nothing reads. It is kept, as a
    buffer, so that their checkpoints go through unchanged; it does not limit the frames.
    """

    name: ClassVar[str] = "seqLSTM"
    in_authors_code: ClassVar[bool] = True

    def __init__(self, dim: int, positions: int, layers: int) -> None:
        super().__init__(dim, positions, layers)
        self.lstm = nn.LSTM(dim, dim, batch_first=True)
        self.unread_positions: Tensor
        self.register_buffer("unread_positions", position_table(positions, dim).detach())

    def start_from(self, init: Mapping[str, Tensor]) -> None:
        """Take the logit scale (and the unread positions); the LSTM starts at random."""
        super().start_from(init)
        table = nn.Parameter(self.unread_positions, requires_grad=False)
        copy_positions(table, init)
        self.unread_positions = table.data
        self.origin = "an LSTM at random"

    def contextualise(self, batch: FeatureBatch) -> Tensor:
        """Frames plus the LSTM's outputs, [B, T, D].

        An LSTM only looks back and padding stands behind the frames, so it is run over the
        padded (zeroed) batch: the same numbers as on packed sequences, empty clips included.
        """
        weight: Tensor = self.lstm.get_parameter("weight_hh_l0")
        frames = batch.features.to(weight.dtype)
        # Many a CPU has no LSTM in bfloat16 (oneDNN refuses), so there it is never narrowed.
        with torch.autocast("cpu", enabled=False):
            outputs, _ = self.lstm(frames)
        total: Tensor = batch.features + outputs
        return total
