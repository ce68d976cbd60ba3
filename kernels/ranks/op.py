"""Ranks of the right clips for evaluation at any size, without the matrix of scores.

The rank of a query is the place of its (first) right clip when the gallery is sorted by
score, descending. Clips with exactly the same score stand in random order, so the rank is
an expected value: with ``g`` clips above, ``m`` right ones at the best right score and
``e`` wrong ones at that same score, the first right clip is expected at
``g + (m + e + 1) / (m + 1)``; with a single right clip, ``1 + g + e / 2``.
"""

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels.dispatch import check_matrix, check_same, compute_dtype, use_triton
from c4c.kernels.ranks import pairs
from c4c.kernels.ranks.naive import Targets, flatten_targets
from c4c.kernels.ranks.pairs import OP


def ground_truth_ranks(queries: Tensor, gallery: Tensor, targets: Targets) -> Tensor:
    """The expected rank (from 1) of each query's right clip, ties broken at random.

    Scores are inner products. Two scores count as tied when they are equal in float64, so
    equal gallery rows always tie, however the product was blocked.

    Args:
        queries: vectors [Q, D].
        gallery: vectors [N, D], of the same dtype.
        targets: the right row of each query, integers [Q], or one non-empty set of rows a
            query; with a set, the rank is that of the best of them.

    Returns:
        Expected ranks, float64 [Q], on the device of ``queries``.

    Raises:
        C4CError: shapes or dtypes do not fit, a target is no row, or a score is not finite.
    """
    greater, equal, right = ground_truth_counts(queries, gallery, targets)
    return greater + (right + equal + 1) / (right + 1)


def ground_truth_counts(
    queries: Tensor, gallery: Tensor, targets: Targets
) -> tuple[Tensor, Tensor, Tensor]:
    """What the rank is made of; arguments and errors as for ``ground_truth_ranks``.

    Returns:
        float64 [Q] each: clips above, wrong clips tied with the best right one, and right
        clips at that score.
    """
    check_matrix(OP, "queries", queries)
    check_matrix(OP, "gallery", gallery)
    check_same(OP, "widths", queries.shape[1], gallery.shape[1], "use one backbone for both")
    check_same(OP, "dtypes", queries.dtype, gallery.dtype, "convert one of them")
    owner, rows = flatten_targets(targets, len(queries), len(gallery))
    owner, rows = owner.to(queries.device), rows.to(queries.device)
    greater, equal, right = torch.ops.c4c.rank_counts(
        queries.detach(), gallery.detach(), owner, rows
    )
    if bool((greater < 0).any()):
        bad = int((greater < 0).nonzero()[0])
        raise C4CError(f"{OP}: query {bad} has a right clip whose score is NaN or infinite.")
    return greater, equal, right


@torch.library.custom_op("c4c::rank_counts", mutates_args=())
def _rank_counts(
    queries: Tensor, gallery: Tensor, owner: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """For each query, float64 [Q]: clips above, wrong ones tied, right ones at the top.

    ``greater`` is -1 where the score of a right clip is not finite.
    """
    if use_triton(queries, gallery):
        from c4c.kernels.ranks.triton import rank_counts

        return rank_counts(queries, gallery, owner, rows)
    return _counts(queries, gallery, owner, rows)


@_rank_counts.register_fake
def _(
    queries: Tensor, gallery: Tensor, owner: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(queries.new_empty(len(queries), dtype=torch.float64) for _ in range(3))  # type: ignore[return-value]


def _counts(
    queries: Tensor, gallery: Tensor, owner: Tensor, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    count = len(queries)
    exact = pairs.pair_scores(queries, gallery, owner, rows)
    best = exact.new_full((count,), -torch.inf).scatter_reduce_(0, owner, exact, "amax")
    greater = torch.zeros(count, dtype=torch.float64, device=queries.device)
    equal = torch.zeros_like(greater)
    wide = compute_dtype(queries.dtype)
    margin = pairs.margin_of(queries, gallery)
    q = queries.to(wide)
    step = max(1, pairs.BLOCK // max(count, 1))
    for low in range(0, len(gallery), step):
        scores = q @ gallery[low : low + step].to(wide).T
        above = scores > (best + margin).to(wide)[:, None]
        greater += above.sum(1)
        # Scores too close for the product's rounding are made again, in float64.
        close = (scores >= (best - margin).to(wide)[:, None]) & ~above
        who, where = close.nonzero(as_tuple=True)
        again = pairs.pair_scores(queries, gallery, who, where + low)
        greater += torch.bincount(who[again > best[who]], minlength=count)
        equal += torch.bincount(who[again == best[who]], minlength=count)
    hits = torch.bincount(owner[exact == best[owner]], minlength=count).double()
    finite = torch.isfinite(best)
    return torch.where(finite, greater, -1.0), equal - hits, hits
