"""The k most similar gallery rows of each query, without the matrix of all scores.

The gallery may lie in memory, be memory-mapped, come as a stream of blocks, be on a GPU,
or be a `GalleryIndex` (an int8 copy that makes exact search on a CPU several times
faster). To queries on a GPU a gallery that lies elsewhere is brought a block at a time. All of
them give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels.dispatch import check_matrix, check_same, use_triton
from c4c.kernels.topk.blocks import (
    OP,
    Block,
    blocks_of,
    check_finite,
    pieces_of,
    search_blocks,
)
from c4c.kernels.topk.stream import search_stream

if TYPE_CHECKING:
    from c4c.kernels.topk.index import GalleryIndex

MAX_K = 1024
# So many queries pay for an index that is built for them alone.
MANY = 512


@runtime_checkable
class Searchable(Protocol):
    """A gallery that knows how to search itself."""

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores float32 [Q, k] and indices int64 [Q, k], best first."""


def topk_similarity(
    queries: Tensor, gallery: Block | Searchable | Sequence[GalleryIndex] | Iterable[Block], k: int
) -> tuple[Tensor, Tensor]:
    """Find the k rows of the gallery with the largest inner product with each query.

    Equal scores stand in the order of their indices, so the result does not depend on how
    the gallery was cut in blocks beyond the rounding of float32. With fewer than k rows,
    the rest is score ``-inf`` and index ``-1``.

    Args:
        queries: vectors [Q, D].
        gallery: rows [N, D] as a tensor, an array (memory-mapped ones are read a block at
            a time), a `GalleryIndex` or a list of them, or an iterable of such blocks; float16,
            bfloat16, float32 or float64 (compared in float32). N < 2**32.
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
    if isinstance(gallery, Sequence) and gallery and isinstance(gallery[0], Searchable):
        from c4c.kernels.topk.index import search_indexes

        return search_indexes(cast("Sequence[GalleryIndex]", gallery), queries, k)
    if isinstance(gallery, Tensor) and (gallery.is_cuda or not queries.is_cuda):
        check_matrix(OP, "gallery", gallery)
        check_same(OP, "widths", queries.shape[1], gallery.shape[1], "use one backbone for both")
        # What is chosen has no gradient.
        scores, indices = torch.ops.c4c.topk_similarity(queries.detach(), gallery.detach(), k)
        return scores, indices
    blocks = cast("Block | Iterable[Block]", gallery)
    if use_triton(queries):
        return search_stream(queries, pieces_of(blocks), k)
    return search_blocks(queries, blocks_of(blocks), k)


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
