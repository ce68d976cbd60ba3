"""The k most similar gallery rows of each query, without the matrix of all scores.

The gallery may lie in memory, be memory-mapped, come as a stream of blocks, be on a GPU,
or be a `GalleryIndex` (an int8 copy that makes exact search on a CPU several times
faster). All of them give the same answer.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels.dispatch import check_matrix, check_same, use_triton
from c4c.kernels.topk.select import INDEX_MASK, Best

OP = "topk_similarity"
MAX_K = 1024
# Bytes of one block of scores (float32) on the CPU path: it stays in the last-level cache.
BLOCK_BYTES = 16 << 20
# So many queries pay for an index that is built for them alone.
MANY = 512
# Gallery rows of one block: enough for a fast product, few enough to convert in memory.
BLOCK_ROWS = 16384

Block = Tensor | np.ndarray[Any, Any]


@runtime_checkable
class Searchable(Protocol):
    """A gallery that knows how to search itself."""

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores float32 [Q, k] and indices int64 [Q, k], best first."""


def topk_similarity(
    queries: Tensor, gallery: Block | Searchable | Iterable[Block], k: int
) -> tuple[Tensor, Tensor]:
    """Find the k rows of the gallery with the largest inner product with each query.

    Equal scores stand in the order of their indices, so the result does not depend on how
    the gallery was cut in blocks beyond the rounding of float32. With fewer than k rows,
    the rest is score ``-inf`` and index ``-1``.

    Args:
        queries: vectors [Q, D].
        gallery: rows [N, D] as a tensor, an array (memory-mapped ones are read a block at
            a time), a `GalleryIndex`, or an iterable of such blocks; float16, bfloat16,
            float32 or float64 (compared in float32). N < 2**32.
        k: how many, 1..1024.

    Returns:
        Scores float32 [Q, k] and indices int64 [Q, k], best first.

    Raises:
        C4CError: k, shapes or dtypes do not fit, or a row is NaN or infinite.
    """
    check_matrix(OP, "queries", queries)
    if not 1 <= k <= MAX_K:
        raise C4CError(f"{OP}: k is {k}; choose 1 to {MAX_K}.")
    check_finite(queries, "query")
    if isinstance(gallery, Searchable):
        return gallery.search(queries, k)
    if isinstance(gallery, Tensor):
        check_matrix(OP, "gallery", gallery)
        check_same(OP, "widths", queries.shape[1], gallery.shape[1], "use one backbone for both")
        scores, indices = torch.ops.c4c.topk_similarity(queries, gallery, k)
        return scores, indices
    return search_blocks(queries, blocks_of(gallery), k)


def topk_similarity_reference(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The definition, from the whole matrix of scores in float64; min(k, N) columns."""
    scores = (queries.double()[:, None] * gallery.double()[None]).sum(2)
    order = torch.sort(scores, dim=1, descending=True, stable=True)
    return order.values[:, :k].float(), order.indices[:, :k]


@torch.library.custom_op("c4c::topk_similarity", mutates_args=())
def _topk(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if use_triton(queries, gallery):
        from c4c.kernels.topk.triton import topk

        return topk(queries, gallery, k)
    if len(queries) >= MANY and gallery.device.type == queries.device.type == "cpu":
        from c4c.kernels.topk.index import GalleryIndex

        return GalleryIndex(gallery).search(queries, k)
    return search_blocks(queries, blocks_of(gallery), k)


@_topk.register_fake
def _(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], k)
    scores = queries.new_empty(shape, dtype=torch.float32)
    return scores, queries.new_empty(shape, dtype=torch.int64)


def search_blocks(
    queries: Tensor, blocks: Iterable[tuple[int, Tensor]], k: int
) -> tuple[Tensor, Tensor]:
    """Exact search by products in float32, over blocks (index of the first row, rows)."""
    best = Best(len(queries), k, queries.device)
    wide = queries.detach().to(torch.float32)
    for first, block in blocks:
        if block.shape[1] != queries.shape[1]:
            check_same(OP, "widths", queries.shape[1], block.shape[1], "use one backbone for both")
        score_block(best, wide, block.detach().to(wide.device, torch.float32), first)
    return best.result()


def score_block(best: Best, queries: Tensor, block: Tensor, first: int) -> None:
    """Offer the scores of float32 ``queries`` [Q, D] and ``block`` [n, D] to ``best``."""
    if not len(queries):
        return
    step = max(256, BLOCK_BYTES // (4 * len(queries)) // 32 * 32)
    low = 0
    while low < len(block):
        part = block[low : low + (best.seed or step)]
        scores = torch.mm(queries, part.T, out=best.scratch(len(part)))
        # A row with NaN or infinity spoils its score with any query.
        if not bool(torch.isfinite(scores[0]).all()):
            check_finite(part, "gallery row", first + low)
        best.add_block(scores, first + low)
        low += len(part)


def blocks_of(gallery: Block | Iterable[Block]) -> Iterator[tuple[int, Tensor]]:
    """The gallery as blocks (index of the first row, rows [n, D])."""
    pieces: Iterable[Block] = [gallery] if isinstance(gallery, Tensor | np.ndarray) else gallery
    first = 0
    for piece in pieces:
        if len(piece.shape) != 2:
            raise C4CError(f"{OP}: a gallery block has shape {list(piece.shape)}; expected [n, D].")
        for low in range(0, len(piece), BLOCK_ROWS):
            rows = piece[low : low + BLOCK_ROWS]
            yield first + low, _as_tensor(rows)
        first += len(piece)
        if first > INDEX_MASK:
            raise C4CError(f"{OP}: the gallery has more than {INDEX_MASK} rows; split it.")


def check_finite(rows: Tensor, name: str, first: int = 0) -> None:
    """Raise a C4CError that names the first row [n, D] with NaN or infinity."""
    bad = ~torch.isfinite(rows).all(1)
    if bool(bad.any()):
        where = first + int(bad.nonzero()[0])
        raise C4CError(f"{OP}: {name} {where} has NaN or infinite values; drop or repair it.")


def _as_tensor(rows: Block) -> Tensor:
    if isinstance(rows, Tensor):
        return rows
    # A copy: memory-mapped arrays are read-only, and torch would warn about that.
    return torch.from_numpy(np.array(rows))
