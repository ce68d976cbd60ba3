"""Top-k on a GPU in two passes: maxima of groups of rows, then the groups that matter.

The first pass is a plain tiled product whose tiles leave only the maximum of every few
neighbouring rows; what rounding may have taken from it bounds what a row of that group can
score. The groups with the k best bounds and a few spare ones are taken, their rows are
scored again in float32, and the result stands if the k-th best score is above the bound of
every group left out. Where it is not, four times as many groups are taken, once. Where
bounds still do not separate (a query of zeros, thousands of near copies), the scores of all
rows are made, a block at a time, and the best taken.
"""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import launching
from c4c.kernels.topk.blocks import check_finite
from c4c.kernels.topk.select import LOWEST, Best, pack_keys, unpack_keys
from c4c.kernels.triton_support import (
    divisible,
    launch_options,
    rows_of,
    tile_for,
    tile_product,
    widened,
)

OP = "topk_similarity"
# Elements of the matrix of group maxima (and of the numbers of rows that are scored again), of
# these rows, and of a block of scores.
MAXIMA = 1 << 26
AGAIN = 1 << 26
SCORES = 1 << 25
# Groups that are taken beside the k best, and how many times as many when these do not do.
SPARE = 8
MORE = 4
# Queries of a block of scores.
TOGETHER = 4096


def topk(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores float32 [Q, k] and indices int64 [Q, k], best first."""
    queries, gallery = rows_of(queries), rows_of(gallery)
    best = Best(len(queries), k, queries.device)
    group = group_size(k)
    slab = max(1, MAXIMA // max(1, len(queries))) * group
    if len(queries):
        for first in range(0, len(gallery), slab):
            _Slab(best, queries, gallery[first : first + slab], first, group).add()
    return best.result()


def group_size(k: int) -> int:
    """Rows that share a maximum: about sqrt(4N / (kD)) balances the two passes."""
    return 32 if k <= 64 else 8


def group_maxima(queries: Tensor, gallery: Tensor, group: int) -> Tensor:
    """The largest score of every ``group`` neighbouring rows: float32 [Q, ceil(N / group)]."""
    tile = tile_for("group_max", queries, gallery)
    (count, depth), total = queries.shape, len(gallery)
    groups = divisible(total, group)
    out = torch.empty(count, groups, device=queries.device, dtype=torch.float32)
    grid = (divisible(count, tile.m), divisible(total, tile.n))
    with launching(OP, queries=queries, gallery=gallery):
        group_max_kernel[(grid[0] * grid[1],)](
            queries, gallery, out, count, total, groups, queries.stride(0), gallery.stride(0),
            depth, M=tile.m, N=tile.n, K=tile.k, G=group, WIDE=widened(queries, gallery),
            **launch_options(tile),
        )  # fmt: skip
    return out


class _Slab:
    """Rows of the gallery that go to ``best`` together, the first of them row ``first`` of it."""

    def __init__(self, best: Best, queries: Tensor, gallery: Tensor, first: int, group: int):
        self.best, self.queries, self.gallery, self.first = best, queries, gallery, first
        self.group, self.k = group, best.keys.shape[1]

    def add(self) -> None:
        """Offer all rows to all queries."""
        bounds = self._bounds()
        open_ = torch.arange(len(self.queries), device=self.queries.device)
        for take in (self.k + SPARE, MORE * (self.k + SPARE)):
            open_ = self._take_groups(open_, bounds, min(take, bounds.shape[1]))
            if not len(open_):
                return
        for some in open_.split(TOGETHER):
            self._take_all(some)

    def _bounds(self) -> Tensor:
        """What no row of a group scores more than, in exact numbers or in float32 [Q, groups]."""
        norms = torch.linalg.vector_norm(self.gallery, dim=1, dtype=torch.float32)
        # The longest of each group: one long row widens no bound but its own group's.
        norms = torch.nn.functional.pad(norms, (0, -len(norms) % self.group))
        norms = norms.view(-1, self.group).amax(1)
        if not bool(torch.isfinite(norms).all()):
            check_finite(self.gallery, "gallery row", self.first)
        # What rounding takes in the first pass, and what it gives when rows are scored again.
        unit = 2 * self.queries.shape[1] * torch.finfo(torch.float32).eps
        lengths = torch.linalg.vector_norm(self.queries, dim=1, dtype=torch.float32)
        return group_maxima(self.queries, self.gallery, self.group).addr_(lengths, unit * norms)

    def _take_groups(self, who: Tensor, bounds: Tensor, take: int) -> Tensor:
        """Offer the rows of the ``take`` groups with the largest bounds; who is still open."""
        every = take == bounds.shape[1]
        left = []
        for some in who.split(max(1, MAXIMA // (take * self.group))):
            bound, chosen = bounds[some].topk(take + (not every), 1)
            found = self._rescore(some, chosen[:, :take])
            kept = found.topk(min(self.k, found.shape[1]), 1).values
            threshold = torch.maximum(unpack_keys(kept[:, -1])[0], self.best.threshold[some])
            # A bound that is not a number (rows too long to square) leaves its query open.
            sure = (threshold > bound[:, -1]) | every
            self.best.merge(some[sure], kept[sure])
            left.append(some[~sure])
        return torch.cat(left)

    def _rescore(self, who: Tensor, chosen: Tensor) -> Tensor:
        """Keys of all rows of the chosen groups [n, t]: int64 [n, t * group]."""
        members = torch.arange(self.group, device=chosen.device)
        rows = (chosen[:, :, None] * self.group + members).flatten(1)
        step = max(1, AGAIN // (rows.shape[1] * max(1, self.queries.shape[1])))
        last, parts = len(self.gallery) - 1, []
        for some, ids in zip(who.split(step), rows.split(step), strict=True):
            vectors = self.gallery[ids.clamp(max=last)].float()
            scores = (vectors * self.queries[some, None].float()).sum(2)
            parts.append(pack_keys(scores, ids + self.first).masked_fill_(ids > last, LOWEST))
        return torch.cat(parts)

    def _take_all(self, who: Tensor) -> None:
        """Offer every row, a block at a time."""
        queries, step = self.queries[who], max(1, SCORES // len(who))
        for low in range(0, len(self.gallery), step):
            scores = group_maxima(queries, self.gallery[low : low + step], 1)
            rows = torch.arange(scores.shape[1], device=who.device) + (self.first + low)
            keys = pack_keys(scores, rows).topk(min(self.k, len(rows)), 1).values
            self.best.merge(who, keys)


@triton.jit
def group_max_kernel(
    queries, gallery, out, count, total, groups, stride_a, stride_b, depth,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, G: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One tile of scores, of which only the maximum of every G columns is written."""
    # Neighbouring programs share a tile of the gallery, which then comes from the L2 cache.
    blocks = tl.cdiv(count, M)
    o_m = (tl.program_id(0) % blocks) * M + tl.arange(0, M)
    column = tl.program_id(0) // blocks
    o_n = column * N + tl.arange(0, N)
    acc = tile_product(
        queries, gallery, o_m, o_n, o_m < count, o_n < total, stride_a, stride_b, depth,
        M, N, K, WIDE,
    )  # fmt: skip
    acc = tl.where(o_n[None, :] < total, acc, -float("inf"))
    b_max = tl.max(tl.reshape(acc, (M, N // G, G)), 2) if G > 1 else acc
    o_g = column * (N // G) + tl.arange(0, N // G)
    inside = (o_m[:, None] < count) & (o_g[None, :] < groups)
    tl.store(out + o_m.to(tl.int64)[:, None] * groups + o_g[None, :], b_max, mask=inside)
