"""Top-k on a GPU in two passes: maxima of groups of rows, then the groups that matter.

The first pass is a plain tiled product whose tiles leave only the maximum of every few
neighbouring rows; what rounding may have taken from it bounds what a row of that group can
score (quick.py, which also has float32 rows multiplied in half precision). The groups with the k
best bounds and a few spare ones are taken, their rows are scored again in float32 where they lie,
and the result stands if the k-th best score is above the bound of every group left out. Where it
is not, four times as many groups are taken, once.
Where bounds still do not separate (a query of zeros, thousands of near copies), the scores of
all rows are made, a block at a time, and the best taken.

For a few queries the scores of all rows are made at once: reading the gallery takes the time,
and bounds, which need the lengths of its rows, would read it twice.

Where the maxima do not fit, queries are cut and not the gallery: so each query is decided
once, against all rows, and takes its few groups of the whole gallery.
"""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import launching
from c4c.kernels.topk.blocks import check_finite
from c4c.kernels.topk.quick import Quick
from c4c.kernels.topk.select import LOWEST, pack_keys, unpack_keys
from c4c.kernels.triton_support import (
    divisible,
    launch_options,
    rows_of,
    tile_for,
    tile_product,
    widened,
)

OP = "topk_similarity"
# Elements of the matrix of group maxima (and of the scores of taken groups), and of a block of
# scores of all rows.
MAXIMA = 1 << 26
SCORES = 1 << 25
# The least queries that share a pass over the gallery: fewer would leave tiles empty.
LEAST = 128
# So few queries are scored with all rows.
FEW = 4
# Groups that are taken beside the k best, and how many times as many when these do not do.
SPARE = 8
MORE = 4
# Queries of a block of scores.
TOGETHER = 4096
# Rows and depth of a tile of rows that are scored again.
ROWS, DEPTH = 128, 64


def topk(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores float32 [Q, k] and indices int64 [Q, k], best first."""
    return unpack_keys(best_keys(queries, gallery, k))


def best_keys(queries: Tensor, gallery: Tensor, k: int, first: int = 0) -> Tensor:
    """The keys int64 [Q, k] of the best rows, best first; ``first`` is the index of row 0."""
    queries, gallery = rows_of(queries), rows_of(gallery)
    keys = torch.full((len(queries), k), LOWEST, dtype=torch.int64, device=queries.device)
    if not (len(queries) and len(gallery)):
        return keys
    group = group_size(k)
    if len(queries) <= FEW:
        every = torch.arange(len(queries), device=queries.device)
        _Search(queries, gallery, group, keys).from_all(every, first)
    else:
        quick = Quick.of(queries, gallery, group, first)
        step = queries_at_a_time(quick.of_groups.shape[1])
        parts = (one.split(step) for one in (queries, keys, quick.queries, quick.of_queries))
        for some, into, rounded, slack in zip(*parts, strict=True):
            bounds = group_maxima(rounded, quick.gallery, group)
            _Search(some, gallery, group, into).run(bounds.addmm_(slack, quick.of_groups))
    # A key has the index in its low half, counted down.
    return torch.where(keys == LOWEST, keys, keys - first) if first else keys


def queries_at_a_time(groups: int) -> int:
    """How many queries share a pass over a gallery of so many groups."""
    return max(LEAST, MAXIMA // groups)


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


def group_scores(
    queries: Tensor, gallery: Tensor, who: Tensor, chosen: Tensor, group: int
) -> Tensor:
    """Scores of all rows of chosen groups, read where they lie: nothing is gathered.

    Args:
        queries: [Q, D].
        gallery: [N, D].
        who: int64 [n], rows of ``queries``.
        chosen: int64 [n, t], numbers of groups, for each of ``who``.
        group: rows of a group.

    Returns:
        float32 [n, t * group]; ``-inf`` beyond the end of the gallery.
    """
    chosen = chosen.contiguous()
    columns = chosen.shape[1] * group
    out = torch.empty(len(who), columns, device=queries.device, dtype=torch.float32)
    with launching(OP, queries=queries, gallery=gallery):
        group_score_kernel[(len(who), divisible(columns, ROWS))](
            queries, gallery, who, chosen, out, len(gallery), chosen.shape[1], columns,
            queries.stride(0), gallery.stride(0), queries.shape[1],
            R=ROWS, K=DEPTH, G=group, num_warps=4,
        )  # fmt: skip
    return out


class _Search:
    """The k best rows of a gallery for some queries; ``keys`` [Q, k] takes them."""

    def __init__(self, queries: Tensor, gallery: Tensor, group: int, keys: Tensor) -> None:
        self.queries, self.gallery, self.group, self.keys = queries, gallery, group, keys
        self.k = keys.shape[1]

    def run(self, bounds: Tensor) -> None:
        """Fill ``keys``.

        Args:
            bounds: float32 [Q, groups]; what no row of a group scores more than, in exact numbers
                or in float32.
        """
        open_ = torch.arange(len(self.queries), device=self.queries.device)
        for take in (self.k + SPARE, MORE * (self.k + SPARE)):
            open_ = self.from_groups(open_, bounds, min(take, bounds.shape[1]))
            if not len(open_):
                return
        for some in open_.split(TOGETHER):
            self.from_all(some)

    def from_groups(self, who: Tensor, bounds: Tensor, take: int) -> Tensor:
        """Take the best of the ``take`` groups with the largest bounds; who is still open."""
        every = take == bounds.shape[1]
        left = []
        for some in who.split(max(1, MAXIMA // (take * self.group))):
            picked = bounds if len(some) == len(bounds) else bounds[some]
            bound, chosen = picked.topk(take + (not every), 1)
            kept = self._best(some, chosen[:, :take])
            self.keys[some, : kept.shape[1]] = kept
            # A bound that is not a number (rows too long to square) leaves its query open.
            sure = (unpack_keys(kept[:, -1])[0] > bound[:, -1]) | every
            left.append(some[~sure])
        return torch.cat(left)

    def _best(self, who: Tensor, chosen: Tensor) -> Tensor:
        """The best keys among all rows of the chosen groups [n, t]: int64 [n, up to k]."""
        scores = group_scores(self.queries, self.gallery, who, chosen, self.group)
        members = torch.arange(self.group, device=chosen.device)
        rows = (chosen[:, :, None] * self.group + members).flatten(1)
        keys = pack_keys(scores, rows).masked_fill_(rows >= len(self.gallery), LOWEST)
        return keys.topk(min(self.k, keys.shape[1]), 1).values

    def from_all(self, who: Tensor, first: int = 0) -> None:
        """Take the best of all rows, a block at a time; ``first`` is the index of row 0."""
        queries, step = self.queries[who], max(1, SCORES // len(who))
        best = self.keys.new_full((len(who), self.k), LOWEST)
        for low in range(0, len(self.gallery), step):
            block = self.gallery[low : low + step]
            scores = group_maxima(queries, block, 1)
            # A row with NaN or infinity spoils its score with any query.
            if not bool(torch.isfinite(scores[0]).all()):
                check_finite(block, "gallery row", first + low)
            rows = torch.arange(low, low + scores.shape[1], device=who.device)
            keys = pack_keys(scores, rows).topk(min(self.k, len(rows)), 1).values
            best = torch.cat([best, keys], 1).topk(self.k, 1).values
        self.keys[who] = best


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


@triton.jit
def group_score_kernel(
    queries, gallery, who, chosen, out, total, take, columns, stride_a, stride_b, depth,
    R: tl.constexpr, K: tl.constexpr, G: tl.constexpr,
):  # fmt: skip
    """Inner products of one query with R rows of its chosen groups, summed in float32."""
    place = tl.program_id(0).to(tl.int64)
    query = tl.load(who + place)
    o_c = tl.program_id(1) * R + tl.arange(0, R)
    group = tl.load(chosen + place * take + o_c // G, mask=o_c < columns, other=0)
    o_n = group * G + o_c % G
    live = (o_c < columns) & (o_n < total)
    o_k = tl.arange(0, K)
    p_a = queries + query * stride_a + o_k
    p_b = gallery + o_n[:, None] * stride_b + o_k[None, :]
    acc = tl.zeros((R,), dtype=tl.float32)
    for k in range(0, depth, K):
        inside = o_k < depth - k
        b_a = tl.load(p_a + k, mask=inside, other=0.0).to(tl.float32)
        b_b = tl.load(p_b + k, mask=live[:, None] & inside[None, :], other=0.0).to(tl.float32)
        acc += tl.sum(b_b * b_a[None, :], 1)
    acc = tl.where(live, acc, -float("inf"))
    tl.store(out + place * columns + o_c, acc, mask=o_c < columns)
