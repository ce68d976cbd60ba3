"""The definition of expected ranks, and the forms in which right clips are given."""

import itertools
from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels.dispatch import check_same
from c4c.kernels.ranks.pairs import OP

Targets = Tensor | Sequence[int] | Sequence[Iterable[int]]


def ground_truth_ranks_reference(queries: Tensor, gallery: Tensor, targets: Targets) -> Tensor:
    """The definition, from the whole matrix of scores in float64."""
    scores = (queries.double()[:, None] * gallery.double()[None]).sum(2)
    owner, rows = flatten_targets(targets, len(queries), len(gallery))
    right = torch.zeros(scores.shape, dtype=torch.bool)
    right[owner, rows] = True
    best = scores.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
    greater = (scores > best).sum(1)
    hits = (right & (scores == best)).sum(1)
    equal = (~right & (scores == best)).sum(1)
    return greater + (hits + equal + 1).double() / (hits + 1)


def flatten_targets(targets: Targets, queries: int, gallery: int) -> tuple[Tensor, Tensor]:
    """Pairs (query, right row), sorted by query and row and without repeats."""
    check_same(OP, "numbers of queries and of targets", queries, len(targets), "pair them up")
    if isinstance(targets, Tensor):
        if targets.is_floating_point() or targets.dtype == torch.bool:
            raise C4CError(f"{OP}: targets are {targets.dtype}; pass integers.")
        rows = targets.long().reshape(-1)
        each = len(rows) // max(queries, 1)
        owner = torch.arange(queries, device=rows.device).repeat_interleave(each)
    else:
        sets = [(int(one),) if isinstance(one, Integral) else tuple(one) for one in targets]  # type: ignore[arg-type]
        sizes = torch.tensor([len(one) for one in sets], dtype=torch.int64)
        if not sizes.all():
            empty = int((sizes == 0).nonzero()[0])
            raise C4CError(f"{OP}: query {empty} has no right clip; leave it out.")
        owner = torch.repeat_interleave(sizes)
        rows = torch.tensor(list(itertools.chain.from_iterable(sets)), dtype=torch.int64)
    outside = ((rows < 0) | (rows >= gallery)).nonzero()
    if len(outside):
        query, row = int(owner[outside[0]]), int(rows[outside[0]])
        raise C4CError(f"{OP}: query {query} has target {row}, not in 0..{gallery - 1}.")
    both = torch.unique(owner * max(gallery, 1) + rows)
    return both // max(gallery, 1), both % max(gallery, 1)
