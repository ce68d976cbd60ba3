"""tightTransf: a transformer over a text and a clip's frames together (CLIP4Clip, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from c4c.core.records import FeatureBatch
from c4c.heads.base import Head, copy_positions, position_table
from c4c.heads.transformer import Norm, QuickGELU, Transformer, linear

# Numbers in the tokens of the pairs computed at once: 8 MiB in float32, 32 MiB inside an MLP,
# and about 1 GiB for the graph of one block of pairs with four layers.
BLOCK_ELEMENTS = 1 << 21


class TightTransf(Head):
    """Sees the text as one token before the frames and turns what it becomes into a logit.

    Every pair of a text and a clip is one sequence of 1 + T tokens. They are computed in
    blocks, and with gradients each block is computed again in the backward pass, so memory
    grows with the matrix only, not with the pairs' activations.
    """

    name: ClassVar[str] = "tightTransf"
    in_authors_code: ClassVar[bool] = True
    loose: ClassVar[bool] = False
    reserved: ClassVar[int] = 1

    def __init__(self, dim: int, positions: int, layers: int) -> None:
        super().__init__(dim, positions, layers)
        self.max_frames = positions - self.reserved
        self.position_embeddings = position_table(positions, dim)
        self.dropout = nn.Dropout(0.1)
        self.transformer = Transformer(dim, layers)
        self.ln_pool = Norm(dim)
        self.pool = linear(dim, dim)
        self.activation = QuickGELU()
        self.similarity = linear(dim, 1)

    def start_from(self, init: Mapping[str, Tensor]) -> None:
        """Take positions and the lowest layers of CLIP's text transformer."""
        super().start_from(init)
        positions = copy_positions(self.position_embeddings, init)
        self.origin = f"{self.transformer.start_from(init)}; {positions}; pooler at random"

    def forward(self, batch: FeatureBatch, text: Tensor, chunk: int | None = None) -> Tensor:
        """Logits of every text against every clip, [Q, B], without a scale.

        Args:
            batch: frame features [B, T, D] and lengths [B].
            text: [Q, D], as the backbone gave them.
            chunk: pairs computed at once; by default as many as fit in a fixed memory.

        Raises:
            C4CError: a clip is longer than the position table, or channels do not fit.
        """
        batch, text = self.clean(batch), self.check_text(text)
        frames = batch.features
        texts, clips = len(text), len(batch)
        if not texts or not clips:
            return frames.new_zeros(texts, clips)
        tokens = (1 + frames.shape[1]) * self.dim
        step = max(1, chunk or BLOCK_ELEMENTS // tokens)
        placed = frames + self.position_embeddings[1 : 1 + frames.shape[1]]
        first = text + self.position_embeddings[0]
        visible = torch.nn.functional.pad(batch.mask(), (1, 0), value=True)
        pairs = torch.split(torch.arange(texts * clips, device=frames.device), step)
        again = torch.is_grad_enabled() and len(pairs) > 1
        logits = [
            checkpoint(self._block, first, placed, visible, pair, use_reentrant=False)
            if again
            else self._block(first, placed, visible, pair)
            for pair in pairs
        ]
        return torch.cat(logits).view(texts, clips)

    def _block(self, first: Tensor, placed: Tensor, visible: Tensor, pairs: Tensor) -> Tensor:
        """Logits [P] of the pairs numbered text * B + clip.

        Args:
            first: texts with their position, [Q, D].
            placed: frames with their positions, [B, T, D].
            visible: bool [B, 1 + T].
            pairs: int64 [P].
        """
        clips = pairs % len(placed)
        texts = pairs.div(len(placed), rounding_mode="floor")
        tokens = self.dropout(torch.cat((first[texts][:, None], placed[clips]), dim=1))
        # Only the text's token is read at the end.
        last = self.transformer(tokens, visible[clips], queries=1)[:, 0]
        pooled = self.activation(self.pool(self.ln_pool(last)))
        logits: Tensor = self.similarity(pooled)[:, 0]
        return logits
