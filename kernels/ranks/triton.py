"""Triton kernels of the ranks: scores of the right pairs, and counts along the gallery.

Both go through the same tile product, so the score of a right clip has the same bits in
both, and equal rows tie.
"""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import launching
from c4c.kernels.triton_support import (
    divisible,
    launch_options,
    rows_of,
    shapes,
    tile_for,
    tile_product,
    upcast,
)

OP = "ground_truth_ranks"
# Pieces of the gallery that are counted side by side, so that few queries fill a GPU.
SPLITS = 32


def rank_counts(
    queries: Tensor, gallery: Tensor, owner: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """For each query, float64 [Q]: clips above, wrong ones tied, right ones at the top."""
    queries, gallery = rows_of(queries), rows_of(gallery)
    tile = tile_for("rank", queries)
    options = {"M": tile.m, "N": tile.n, "K": tile.k, "WIDE": upcast(queries)}
    options |= launch_options(tile)
    count, depth = queries.shape
    pairs = torch.empty(len(owner), device=queries.device, dtype=torch.float32)
    strides = (queries.stride(0), gallery.stride(0), depth)
    counts = torch.zeros(2, SPLITS, count, device=queries.device, dtype=torch.int64)
    with launching(OP, shapes(queries=queries, gallery=gallery)):
        pair_kernel[(divisible(len(owner), tile.m),)](
            queries, gallery, owner, rows, pairs, len(owner), *strides, **options
        )
        best = torch.full((count,), -torch.inf, device=queries.device)
        best.scatter_reduce_(0, owner, pairs, "amax")
        piece = divisible(divisible(len(gallery), SPLITS), tile.n) * tile.n
        rank_kernel[(divisible(count, tile.m), SPLITS)](
            queries, gallery, best, counts, count, len(gallery), piece, *strides, **options
        )
    greater, equal = counts.sum(1).double()
    hits = torch.bincount(owner[pairs == best[owner]], minlength=count).double()
    return torch.where(torch.isfinite(best), greater, -1.0), equal - hits, hits


@triton.jit
def pair_kernel(
    queries, gallery, owner, rows, out, pairs, stride_a, stride_b, depth,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Scores of M pairs: the diagonal of the product of their rows."""
    o_p = tl.program_id(0) * M + tl.arange(0, M)
    live = o_p < pairs
    o_a = tl.load(owner + o_p, mask=live, other=0)
    o_b = tl.load(rows + o_p, mask=live, other=0)
    acc = tile_product(
        queries, gallery, o_a, o_b, live, live, stride_a, stride_b, depth, M, N, K, WIDE
    )
    diagonal = tl.arange(0, M)[:, None] == tl.arange(0, N)[None, :]
    tl.store(out + o_p, tl.sum(tl.where(diagonal, acc, 0.0), 1), mask=live)


@triton.jit
def rank_kernel(
    queries, gallery, best, counts, count, total, piece, stride_a, stride_b, depth,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """How many rows of one piece of the gallery are above, and equal to, each best score."""
    o_m = tl.program_id(0) * M + tl.arange(0, M)
    split = tl.program_id(1)
    b_best = tl.load(best + o_m, mask=o_m < count, other=float("inf"))
    b_more = tl.zeros((M,), dtype=tl.int32)
    b_same = tl.zeros((M,), dtype=tl.int32)
    begin = split * piece
    for first in range(begin, tl.minimum(begin + piece, total), N):
        o_n = first + tl.arange(0, N)
        live = o_n < total
        acc = tile_product(
            queries, gallery, o_m, o_n, o_m < count, live, stride_a, stride_b, depth, M, N, K, WIDE
        )
        b_more += tl.sum(((acc > b_best[:, None]) & live[None, :]).to(tl.int32), 1)
        b_same += tl.sum(((acc == b_best[:, None]) & live[None, :]).to(tl.int32), 1)
    p_out = counts + split.to(tl.int64) * count + o_m
    tl.store(p_out, b_more.to(tl.int64), mask=o_m < count)
    splits = tl.num_programs(1).to(tl.int64)
    tl.store(p_out + splits * count, b_same.to(tl.int64), mask=o_m < count)
