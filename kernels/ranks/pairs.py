"""Scores of single pairs in float64, and how near a product in less comes to them."""

import math

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels.dispatch import compute_dtype

OP = "ground_truth_ranks"
# Scores of one block (queries times clips) on the CPU path: 8 MB in float32.
BLOCK = 2 << 20


def pair_scores(queries: Tensor, gallery: Tensor, who: Tensor, where: Tensor) -> Tensor:
    """Inner products of the pairs in float64 [P]; equal rows give equal bits."""
    step = max(1, BLOCK // max(queries.shape[1], 1))
    parts = [
        (queries[w].double() * gallery[r].double()).sum(1)
        for w, r in zip(torch.split(who, step), torch.split(where, step), strict=True)
    ]
    return torch.cat(parts) if parts else queries.new_empty(0, dtype=torch.float64)


def margin_of(queries: Tensor, gallery: Tensor) -> Tensor:
    """More than the rounding error of a product in the working precision, [Q]."""
    wide = compute_dtype(queries.dtype)
    parts = [
        part.to(wide).norm(dim=1).amax() for part in torch.split(gallery, 1 << 14) if len(part)
    ]
    longest = float(torch.stack(parts).amax()) if parts else 0.0
    if not math.isfinite(longest):
        raise C4CError(f"{OP}: the gallery has NaN or infinite values; drop those rows.")
    unit = torch.finfo(wide).eps * queries.shape[1]
    margin: Tensor = queries.double().norm(dim=1) * (longest * unit)
    return margin
