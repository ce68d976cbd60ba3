"""What the first pass of a search on a GPU multiplies, and how far it may be off.

Tensor cores take halves. Where the gallery holds them, the queries are rounded to its dtype;
where it is float32 and many queries pay for a copy, both are rounded to float16. The first pass
only bounds scores: with q = a + b and g = c + d, a and c the rounded vectors,

    q.g <= a.c + |b| |g| + |a| |d|

and the rows that matter are scored again with all their digits.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from c4c.kernels.topk.blocks import check_finite

HALVES = (torch.float16, torch.bfloat16)
# So many queries pay for a copy of a float32 gallery in float16: multiplying it with fewer in
# float32 takes less time than copying.
COPIED = 64
# Values that are rounded at a time.
AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Quick:
    """Rows for the first pass. What it may be off is at most ``of_queries @ of_groups``.

    Attributes:
        queries: [Q, D].
        gallery: [N, D].
        of_queries: float32 [Q, 2]; what rounding took from each query, and its length.
        of_groups: float32 [2, groups]; what each of these is multiplied with.
    """

    queries: Tensor
    gallery: Tensor
    of_queries: Tensor
    of_groups: Tensor

    @classmethod
    def of(cls, queries: Tensor, gallery: Tensor, group: int, first: int = 0) -> "Quick":
        """Round what is worth rounding.

        Args:
            queries: [Q, D].
            gallery: [N, D], on the same device.
            group: rows of a group.
            first: index of the gallery's row 0, for messages.

        Raises:
            C4CError: a row of the gallery is NaN or infinite.
        """
        longest = _of_groups(_norms(gallery), group)
        if not bool(torch.isfinite(longest).all()):
            check_finite(gallery, "gallery row", first)
        lengths, dtype = _norms(queries), quick_dtype(queries, gallery)
        of_queries, of_rows = torch.zeros_like(lengths), torch.zeros_like(longest)
        if dtype not in (None, queries.dtype):
            queries, of_queries = rounded(queries, dtype)
        if dtype not in (None, gallery.dtype):
            gallery, lost = rounded(gallery, dtype)
            of_rows = _of_groups(lost, group)
        # What float32 takes in the first pass, and what it gives when rows are scored again.
        unit = 2 * queries.shape[1] * torch.finfo(torch.float32).eps
        of_groups = torch.stack([longest + of_rows, unit * longest + of_rows])
        # Products of these may themselves be made of numbers cut to bfloat16 (a setting of torch).
        return cls(queries, gallery, torch.stack([of_queries, lengths], 1), 1.02 * of_groups)


def quick_dtype(queries: Tensor, gallery: Tensor) -> torch.dtype | None:
    """The half precision of the first pass; ``None`` where rows are taken as they are."""
    if gallery.dtype in HALVES:
        return None if queries.dtype == gallery.dtype else gallery.dtype
    return torch.float16 if len(queries) >= COPIED and _room(gallery) else None


def _room(gallery: Tensor) -> bool:
    """Whether a copy in half precision takes no more than half of what memory is free."""
    free = torch.cuda.mem_get_info(gallery.device)[0] if gallery.is_cuda else 1 << 62
    return 2 * gallery.numel() <= free // 2


def rounded(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``rows`` [N, D] in ``dtype``, and the length float32 [N] of what that took from each.

    What is too large for the dtype has lost an infinite length.
    """
    near = torch.empty_like(rows, dtype=dtype, memory_format=torch.contiguous_format)
    lost = []
    step = max(1, AT_ONCE // max(1, rows.shape[1]))
    for whole, half in zip(torch.split(rows, step), torch.split(near, step), strict=True):
        half.copy_(whole)
        lost.append(_norms(whole.float() - half))
    return near, torch.cat(lost)


def _norms(rows: Tensor) -> Tensor:
    """The length [N] of each row, and what squares that underflow in float32 may hide of it."""
    hidden = 2 * math.sqrt(rows.shape[1] * torch.finfo(torch.float32).tiny)
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32)
    return norms + hidden


def _of_groups(lengths: Tensor, group: int) -> Tensor:
    """The largest of each group: one long row widens the bound of no other group."""
    return torch.nn.functional.pad(lengths, (0, -len(lengths) % group)).view(-1, group).amax(1)
