"""Scores of single pairs in float64, and how near a product in less comes to them."""

import math

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels.dispatch import compute_dtype

OP = "ground_truth_ranks"
# Scores of one block (queries times clips) on the CPU path: 8 MB in float32.
BLOCK = 2 << 20
# Rows whose norms are made at a time on the CPU path: they are widened in memory.
ROWS = 1 << 14


def pair_scores(
    queries: Tensor, gallery: Tensor, who: Tensor, where: Tensor, block: int = BLOCK
) -> Tensor:
    """Inner products of the pairs in float64 [P]; equal rows give equal bits.

    Args:
        queries: [Q, D].
        gallery: [N, D].
        who: rows of ``queries`` [P].
        where: rows of ``gallery`` [P].
        block: values that are widened at a time.
    """
    step = max(1, block // max(queries.shape[1], 1))
    parts = [
        (queries[w].double() * gallery[r].double()).sum(1)
        for w, r in zip(torch.split(who, step), torch.split(where, step), strict=True)
    ]
    return torch.cat(parts) if parts else queries.new_empty(0, dtype=torch.float64)


def margin_of(queries: Tensor, gallery: Tensor, rows: int = ROWS) -> Tensor:
    """More than the rounding error of a product in the working precision, [Q].

    Args:
        queries: [Q, D].
        gallery: [N, D].
        rows: of the gallery that are looked at at a time.
    """
    wide = compute_dtype(queries.dtype)
    parts = [
        torch.linalg.vector_norm(part, dim=1, dtype=wide).amax()
        for part in torch.split(gallery, max(1, rows))
        if len(part)
    ]
    longest = float(torch.stack(parts).amax()) if parts else 0.0
    if not math.isfinite(longest):
        raise C4CError(f"{OP}: the gallery has NaN or infinite values; drop those rows.")
    unit = torch.finfo(wide).eps * queries.shape[1]
    margin: Tensor = queries.double().norm(dim=1) * (longest * unit)
    return margin
