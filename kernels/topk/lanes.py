"""One thread's part of a search by an int8 index (index.py): queries in words, groups in turn."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from c4c.kernels import native
from c4c.kernels.topk.blocks import blocks_of, score_block
from c4c.kernels.topk.select import Best

# Neighbouring rows that share a scale and lie interleaved; GROUP in native.c.
GROUP = 32
# Pairs of a query and a row between two looks at whether the bounds prune.
PAIRS = 1 << 26
# The most that native.c has room for: MAX_QUERIES.
MOST = 1024
# Floats that vectors are padded to.
PAD = 16
# As in native.c: rows smaller than this are all rest.
LEAST_SCALE = 1e-30


class Coded(Protocol):
    """What a lane is given of an index."""

    rows: Tensor
    codes: Tensor | None
    scale: Tensor
    bounds: Tensor
    group_bounds: Tensor


@dataclass(frozen=True)
class Words:
    """Quantised queries, ``queries = step * words + remainder``, padded for vector loads.

    ``centre`` is their products with the mean of the index that they are searched in.
    """

    queries: Tensor
    words: Tensor
    shift: Tensor
    step: Tensor
    per_step: Tensor
    norm: Tensor
    remainder: Tensor
    centre: Tensor

    @classmethod
    def of(cls, queries: Tensor) -> "Words":
        """Quantise queries [Q, D], for an index whose mean is zero."""
        step = _scale(queries, native.most_word())
        words = (queries / step[:, None]).round_()
        least = least_norm(queries.shape[1])
        norm = queries.norm(dim=1) + least
        remainder = (queries - words * step[:, None]).norm(dim=1) + least
        # Slack for the rounding of the remainder itself.
        remainder += norm * 4 * torch.finfo(torch.float32).eps
        narrow = torch.nn.functional.pad(words, (0, -words.shape[1] % 4)).to(torch.int8)
        shift = -128 * narrow.sum(1, dtype=torch.int32)
        floats = [_padded(x) for x in (step, 1 / step, norm, remainder, 0 * norm)]
        return cls(queries, narrow, shift, *floats)

    def about(self, mean: Tensor) -> "Words":
        """The same, for an index of that mean [D]."""
        return replace(self, centre=_padded(self.queries @ mean))


class Lane:
    """One thread's part of a search: some queries, some groups, and the best of them so far.

    Args:
        index: what is searched.
        words: for which queries.
        best: of what was searched before; it is added to.
        share: the first of the index's groups that are searched, and the one after the last.
        base: number of the index's first row.
    """

    def __init__(
        self, index: Coded, words: Words, best: Best, share: tuple[int, int], base: int
    ) -> None:
        self.group, self.last = share
        self._index, self._words, self._best, self._base = index, words, best, base
        self._heap = best.keys.flip(1)  # An ascending row is a heap.
        self._gap = torch.full_like(words.norm, -torch.inf)
        self._set_gap()
        queries, k = best.keys.shape
        self._state = _state(index, words, self._heap, self._gap)
        self._state.base = base
        # Before there is a threshold everything passes.
        self._state.most = queries * (4 * k + 512)
        self._stretch = max(1, PAIRS // (GROUP * queries))
        self._first = self._end = self._retry = self.group
        self._tried = False

    def by_bounds(self) -> bool:
        """Take on the next groups; whether their bounds are to be tried."""
        self._end = min(self.last, self.group + self._stretch)
        self._tried = self._retry <= self.group < self.last
        return self._tried

    @property
    def task(self) -> tuple[native.Search, int, int]:
        """The groups taken on, as native.c searches them: as long as bounds rule out enough."""
        return self._state, self.group, self._end

    def settle(self) -> None:
        """Do in float32 what is left of these groups."""
        if self.group == self._end:
            return
        best = self.result()
        low, high = self.group * GROUP, min(self._end * GROUP, len(self._index.rows))
        for first, block in blocks_of(self._index.rows[low:high]):
            score_block(best, self._words.queries, block.float(), self._base + low + first)
        self._heap.copy_(best.keys.flip(1))
        self._set_gap()
        self.group = self._end
        if self._tried:
            self._retry = 2 * self._end - self._first
            self._state.seen = self._state.scored = 0

    def _set_gap(self) -> None:
        count = len(self._best.keys)
        self._gap[:count] = self._best.threshold - self._words.centre[:count]

    def result(self) -> Best:
        """The best so far, in order."""
        self._best.keep(self._heap.sort(1, descending=True).values)
        return self._best


def _state(index: Coded, words: Words, heap: Tensor, gap: Tensor) -> native.Search:
    """What native.c is given; all of it must outlive the calls."""
    assert index.codes is not None and len(words.norm) <= MOST
    return native.Search(
        **native.layout(index.rows),
        depth=index.codes.shape[1],
        count=len(words.queries),
        padded=len(words.norm),
        k=heap.shape[1],
        rows=index.rows.data_ptr(),
        **native.pointers(
            codes=index.codes,
            scale=index.scale,
            group_length=index.group_bounds[0],
            group_error=index.group_bounds[1],
            length=index.bounds[0],
            error=index.bounds[1],
            **vars(words),
            keys=heap,
            gap=gap,
        ),
    )


def _scale(rows: Tensor, most: int) -> Tensor:
    """The scale [n] that makes integers up to ``most`` (1 where one over it would overflow)."""
    scale = rows.abs().amax(1) / most
    return torch.where(scale > LEAST_SCALE, scale, 1.0)


def least_norm(dim: int) -> float:
    """What squares that underflow in float32 may hide of a norm."""
    return 2 * float((dim * torch.finfo(torch.float32).tiny) ** 0.5)


def _padded(values: Tensor) -> Tensor:
    return torch.nn.functional.pad(values, (0, -len(values) % PAD))
