"""Top-k search a block of gallery rows at a time, in float32: the path that needs nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels.dispatch import check_same
from c4c.kernels.topk.select import INDEX_MASK, Best

OP = "topk_similarity"
# Bytes of one block of scores (float32) on the CPU path: it stays in the last-level cache.
BLOCK_BYTES = 16 << 20
# Gallery rows of one block: enough for a fast product, few enough to convert in memory.
BLOCK_ROWS = 16384

Block = Tensor | np.ndarray[Any, Any]


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
    return ((first, _as_tensor(rows)) for first, rows in pieces_of(gallery))


def pieces_of(gallery: Block | Iterable[Block]) -> Iterator[tuple[int, Block]]:
    """The same, where they lie."""
    pieces: Iterable[Block] = [gallery] if isinstance(gallery, Tensor | np.ndarray) else gallery
    first = 0
    for piece in pieces:
        if len(piece.shape) != 2:
            raise C4CError(f"{OP}: a gallery block has shape {list(piece.shape)}; expected [n, D].")
        for low in range(0, len(piece), BLOCK_ROWS):
            yield first + low, piece[low : low + BLOCK_ROWS]
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
