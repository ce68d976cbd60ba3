"""Top-k on a GPU in two passes: maxima of groups of rows, then the groups that matter.

The first pass is a plain tiled product whose tiles leave only the maximum of every few
neighbouring rows. The k best rows lie in the k best groups; a few spare groups are taken,
their rows are scored again in float32, and the result stands if the k-th best score is
above the maximum of every group left out by more than the rounding of the first pass.
Where it is not, more groups are taken.
"""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import launching
from c4c.kernels.topk.blocks import check_finite
from c4c.kernels.topk.select import INDEX_MASK, LOWEST, Best, pack_keys, unpack_keys
from c4c.kernels.triton_support import (
    divisible,
    launch_options,
    rows_of,
    shapes,
    tile_for,
    tile_product,
    upcast,
)

OP = "topk_similarity"
# Elements of the matrix of group maxima, and of the rows scored again, at a time.
MAXIMA = 1 << 26
AGAIN = 1 << 26


def topk(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores float32 [Q, k] and indices int64 [Q, k], best first."""
    queries, gallery = rows_of(queries), rows_of(gallery.to(queries.dtype))
    best = Best(len(queries), k, queries.device)
    group = group_size(k)
    slab = max(1, MAXIMA // max(1, len(queries))) * group
    if len(queries):
        for first in range(0, len(gallery), slab):
            _add_slab(best, queries, gallery[first : first + slab], first, group)
    return best.result()


def group_size(k: int) -> int:
    """Rows that share a maximum: about sqrt(4N / (kD)) balances the two passes."""
    return 32 if k <= 64 else 8


def group_maxima(queries: Tensor, gallery: Tensor, group: int) -> Tensor:
    """The largest score of every ``group`` neighbouring rows: float32 [Q, ceil(N / group)]."""
    tile = tile_for("group_max", queries)
    (count, depth), total = queries.shape, len(gallery)
    groups = divisible(total, group)
    out = torch.empty(count, groups, device=queries.device, dtype=torch.float32)
    grid = (divisible(count, tile.m), divisible(total, tile.n))
    with launching(OP, shapes(queries=queries, gallery=gallery)):
        group_max_kernel[(grid[0] * grid[1],)](
            queries, gallery, out, count, total, groups, queries.stride(0), gallery.stride(0),
            depth, M=tile.m, N=tile.n, K=tile.k, G=group, WIDE=upcast(queries),
            **launch_options(tile),
        )  # fmt: skip
    return out


def _add_slab(best: Best, queries: Tensor, gallery: Tensor, first: int, group: int) -> None:
    k = best.keys.shape[1]
    maxima = group_maxima(queries, gallery, group)
    longest = torch.linalg.vector_norm(gallery, dim=1, dtype=torch.float32).amax()
    if not bool(torch.isfinite(longest)):
        check_finite(gallery, "gallery row", first)
    norm = torch.linalg.vector_norm(queries, dim=1, dtype=torch.float32)
    slack = norm * longest * (2 * queries.shape[1] * torch.finfo(torch.float32).eps)
    keys = pack_keys(maxima, torch.arange(maxima.shape[1], device=maxima.device))
    open_, take = torch.arange(len(queries), device=queries.device), k + 8
    while len(open_):
        take = min(take, maxima.shape[1])
        chosen = INDEX_MASK - (keys[open_].topk(take, 1).values & INDEX_MASK)
        found = _rescore(queries, gallery, open_, chosen, group, first)
        kept = found.topk(min(k, found.shape[1]), 1).values
        threshold = torch.maximum(unpack_keys(kept[:, -1])[0], best.threshold[open_])
        left_out = maxima[open_].gather(1, chosen[:, -1:])[:, 0] + slack[open_]
        sure = (threshold > left_out) | (take == maxima.shape[1])
        best.merge(open_[sure], kept[sure])
        open_, take = open_[~sure], 4 * take


def _rescore(
    queries: Tensor, gallery: Tensor, who: Tensor, chosen: Tensor, group: int, first: int
) -> Tensor:
    """Keys of all rows of the chosen groups [n, t]: int64 [n, t * group]."""
    members = torch.arange(group, device=chosen.device)
    rows = (chosen[:, :, None] * group + members).flatten(1)
    step = max(1, AGAIN // (rows.shape[1] * queries.shape[1]))
    parts = []
    for some, ids in zip(who.split(step), rows.split(step), strict=True):
        vectors = gallery[ids.clamp(max=len(gallery) - 1)].float()
        scores = (vectors * queries[some, None].float()).sum(2)
        parts.append(pack_keys(scores, ids + first).masked_fill(ids >= len(gallery), LOWEST))
    return torch.cat(parts)


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
    b_max = tl.max(tl.reshape(acc, (M, N // G, G)), 2)
    o_g = column * (N // G) + tl.arange(0, N // G)
    inside = (o_m[:, None] < count) & (o_g[None, :] < groups)
    tl.store(out + o_m.to(tl.int64)[:, None] * groups + o_g[None, :], b_max, mask=inside)
