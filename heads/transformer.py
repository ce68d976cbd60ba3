"""The transformer that seqTransf and tightTransf share: CLIP's blocks with a padding mask."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from c4c.heads.base import INIT_STD

# CLIP4Clip's own transformer normalises with this, CLIP with 1e-5.
EPS = 1e-12


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape: x * sigmoid(1.702 x)."""
        return x * torch.sigmoid(1.702 * x)


class Norm(nn.LayerNorm):
    """Layer norm with the epsilon of the authors' heads."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=EPS)


class Attention(nn.Module):
    """Multi-head self-attention under the parameter names of torch's own module."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(3 * dim, dim)))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = linear(dim, dim)

    def forward(self, x: Tensor, visible: Tensor, queries: int | None = None) -> Tensor:
        """Mix tokens.

        Args:
            x: [N, T, D].
            visible: bool [N, T], which tokens are attended to; at least one each.
            queries: compute only the first so many tokens; ``None`` is all.

        Returns:
            [N, queries or T, D].
        """
        n, t, d = x.shape
        first = x if queries is None else x[:, :queries]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        query = F.linear(first, weight[:d], bias[:d]).view(n, -1, self.heads, d // self.heads)
        both = F.linear(x, weight[d:], bias[d:]).view(n, t, 2, self.heads, d // self.heads)
        key, value = both.unbind(2)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=visible[:, None, None, :],
        )
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(n, -1, d))
        return out


class Block(nn.Module):
    """A pre-norm residual block, named as CLIP names its parts."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(dim, heads)
        self.ln_1 = Norm(dim)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=linear(dim, 4 * dim), gelu=QuickGELU(), c_proj=linear(4 * dim, dim))
        )
        self.ln_2 = Norm(dim)

    def forward(self, x: Tensor, visible: Tensor, queries: int | None = None) -> Tensor:
        """[N, T, D] and bool [N, T] to [N, queries or T, D]."""
        kept = x if queries is None else x[:, :queries]
        kept = kept + self.attn(self.ln_1(x), visible, queries)
        out: Tensor = kept + self.mlp(self.ln_2(kept))
        return out


class Transformer(nn.Module):
    """Blocks one after the other (``resblocks``, as CLIP names them)."""

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(dim, heads_for(dim)) for _ in range(layers))

    def forward(self, x: Tensor, visible: Tensor, queries: int | None = None) -> Tensor:
        """Run the blocks.

        Args:
            x: [N, T, D].
            visible: bool [N, T], which tokens are attended to; at least one each.
            queries: tokens wanted at the end; the last block computes no others.

        Returns:
            [N, queries or T, D].
        """
        last = len(self.resblocks) - 1
        for number, block in enumerate(self.resblocks):
            x = block(x, visible, queries if number == last else None)
        return x

    def start_from(self, init: Mapping[str, Tensor]) -> str:
        """Copy the lowest blocks of CLIP's text transformer that fit; say what was done."""
        copied = 0
        for number, block in enumerate(self.resblocks):
            prefix = f"resblocks.{number}."
            own: dict[str, Any] = block.state_dict()
            given = {key: init[prefix + key] for key in own if prefix + key in init}
            if not _fits(own, given):
                break
            block.load_state_dict(given)
            copied += 1
        total = len(self.resblocks)
        rest = f", {total - copied} of {total} at random" if copied < total else ""
        return f"{copied} layers of CLIP's text transformer{rest}"


def _fits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> bool:
    return given.keys() == own.keys() and all(own[k].shape == given[k].shape for k in own)


def heads_for(dim: int) -> int:
    """Attention heads as CLIP counts them, one for 64 channels, where that divides ``dim``."""
    wanted = max(1, dim // 64)
    return next(heads for heads in range(wanted, 0, -1) if dim % heads == 0)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer started as CLIP4Clip starts new ones: small weights, no bias."""
    made = nn.Linear(inputs, outputs)
    nn.init.normal_(made.weight, std=INIT_STD)
    nn.init.zeros_(made.bias)
    return made
