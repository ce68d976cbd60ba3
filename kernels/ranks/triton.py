"""Triton kernels of the ranks: counts along the gallery, and the rows too close to call.

Scores of a product in float32 decide all rows but those closer to the best right score than
rounding: these are listed, and decided in float64, as on a CPU. So equal rows tie, however
the product was made.
"""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import launching
from c4c.kernels.ranks.pairs import OP, margin_of, pair_scores
from c4c.kernels.triton_support import (
    divisible,
    launch_options,
    rows_of,
    tile_for,
    tile_product,
    widened,
)

# Pieces of the gallery that are counted side by side, so that few queries fill a GPU.
SPLITS = 32
# Rows whose closeness is said in one word, a bit each.
GROUP = 32
# Words of one launch, and close rows that are decided after it: what fits in 64 MB.
WORDS = 1 << 24
# Values of pairs that are widened to float64 at a time.
PAIRS = 1 << 25
# Words that are taken apart at a time.
APART = 1 << 18


def rank_counts(
    queries: Tensor, gallery: Tensor, owner: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """For each query, float64 [Q]: clips above, wrong ones tied, right ones at the top."""
    queries, gallery = rows_of(queries), rows_of(gallery)
    exact = pair_scores(queries, gallery, owner, rows, PAIRS)
    best = exact.new_full((len(queries),), -torch.inf).scatter_reduce_(0, owner, exact, "amax")
    hits = torch.bincount(owner[exact == best[owner]], minlength=len(queries)).double()
    if not len(queries) or not len(gallery):
        return torch.where(torch.isfinite(best), 0.0, -1.0), -hits, hits
    margin = margin_of(queries, gallery, len(gallery))
    # Rounded outwards: what is within the margin stays so.
    low = (best - margin).float().nextafter(best.new_tensor(-torch.inf, dtype=torch.float32))
    high = (best + margin).float().nextafter(best.new_tensor(torch.inf, dtype=torch.float32))
    above, close = _count(queries, gallery, low, high)
    greater, equal = above.sum(0).double(), hits.clone()
    # One close row is the right one itself.
    open_ = ((close.sum(0) > 1) & torch.isfinite(best)).nonzero()[:, 0]
    equal[open_] = 0.0
    for some in _portions(open_, close.sum(0), len(gallery)):
        for who, where in _list(queries, gallery, low, high, some):
            again = pair_scores(queries, gallery, who, where, PAIRS)
            greater += torch.bincount(who[again > best[who]], minlength=len(best))
            equal += torch.bincount(who[again == best[who]], minlength=len(best))
    return torch.where(torch.isfinite(best), greater, -1.0), equal - hits, hits


def _count(queries: Tensor, gallery: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Rows above ``high``, and from ``low`` to it, in each piece: int32 [SPLITS, Q] each."""
    tile, (count, depth) = tile_for("rank", queries, gallery), queries.shape
    above, close = queries.new_zeros(2, SPLITS, count, dtype=torch.int32)
    piece = divisible(divisible(len(gallery), SPLITS), tile.n) * tile.n
    with launching(OP, queries=queries, gallery=gallery):
        count_kernel[(divisible(count, tile.m), SPLITS)](
            queries, gallery, low, high, above, close, count, len(gallery), piece,
            queries.stride(0), gallery.stride(0), depth,
            M=tile.m, N=tile.n, K=tile.k, WIDE=widened(queries, gallery), **launch_options(tile),
        )  # fmt: skip
    return above, close


def _portions(who: Tensor, close: Tensor, rows: int) -> list[Tensor]:
    """``who`` in runs that one launch can list."""
    if not len(who):
        return []
    runs = close[who].clamp(min=divisible(rows, GROUP)).cumsum(0) // WORDS
    return list(who.split(torch.unique_consecutive(runs, return_counts=True)[1].tolist()))


def _list(
    queries: Tensor, gallery: Tensor, low: Tensor, high: Tensor, who: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """The close pairs of the queries ``who``: query and row, [P] each time."""
    some, tile = queries[who], tile_for("rank", queries, gallery)
    words = divisible(len(gallery), GROUP)
    out = torch.empty(len(who), words, dtype=torch.int32, device=who.device)
    grid = divisible(len(who), tile.m) * divisible(len(gallery), tile.n)
    with launching(OP, queries=queries, gallery=gallery):
        list_kernel[(grid,)](
            some, gallery, low[who], high[who], out, len(who), len(gallery), words,
            some.stride(0), gallery.stride(0), queries.shape[1],
            M=tile.m, N=tile.n, K=tile.k, G=GROUP, WIDE=widened(queries, gallery),
            **launch_options(tile),
        )  # fmt: skip
    bits = torch.arange(GROUP, device=who.device)
    for place in out.nonzero().split(APART):
        owner, word = place.unbind(1)
        pair, bit = (out[owner, word, None] >> bits & 1).nonzero(as_tuple=True)
        yield who[owner[pair]], word[pair] * GROUP + bit


@triton.jit
def count_kernel(
    queries, gallery, low, high, above, close, count, total, piece, stride_a, stride_b, depth,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """How many rows of one piece of the gallery are above, and close to, each best score."""
    o_m = tl.program_id(0) * M + tl.arange(0, M)
    split = tl.program_id(1)
    b_low = tl.load(low + o_m, mask=o_m < count, other=float("inf"))
    b_high = tl.load(high + o_m, mask=o_m < count, other=float("inf"))
    b_above = tl.zeros((M,), dtype=tl.int32)
    b_close = tl.zeros((M,), dtype=tl.int32)
    begin = split * piece
    for first in range(begin, tl.minimum(begin + piece, total), N):
        o_n = first + tl.arange(0, N)
        live = o_n < total
        acc = tile_product(
            queries, gallery, o_m, o_n, o_m < count, live, stride_a, stride_b, depth, M, N, K, WIDE
        )
        more = (acc > b_high[:, None]) & live[None, :]
        # Neither above nor below: where bounds are no numbers, too.
        less = (acc < b_low[:, None]) | ~live[None, :]
        b_above += tl.sum(more.to(tl.int32), 1)
        b_close += tl.sum((~more & ~less).to(tl.int32), 1)
    place = split.to(tl.int64) * count + o_m
    tl.store(above + place, b_above, mask=o_m < count)
    tl.store(close + place, b_close, mask=o_m < count)


@triton.jit
def list_kernel(
    queries, gallery, low, high, out, count, total, words, stride_a, stride_b, depth,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, G: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The rows that ``count_kernel`` counts as close: a bit for each, G to a word."""
    blocks = tl.cdiv(count, M)
    o_m = (tl.program_id(0) % blocks) * M + tl.arange(0, M)
    column = tl.program_id(0) // blocks
    o_n = column * N + tl.arange(0, N)
    live = o_n < total
    b_low = tl.load(low + o_m, mask=o_m < count, other=float("inf"))
    b_high = tl.load(high + o_m, mask=o_m < count, other=float("inf"))
    acc = tile_product(
        queries, gallery, o_m, o_n, o_m < count, live, stride_a, stride_b, depth, M, N, K, WIDE
    )
    more = acc > b_high[:, None]
    less = (acc < b_low[:, None]) | ~live[None, :]
    bits = (~more & ~less).to(tl.int32) << (o_n % G)[None, :]
    b_word = tl.sum(tl.reshape(bits, (M, N // G, G)), 2)
    o_w = column * (N // G) + tl.arange(0, N // G)
    inside = (o_m[:, None] < count) & (o_w[None, :] < words)
    tl.store(out + o_m.to(tl.int64)[:, None] * words + o_w[None, :], b_word, mask=inside)
