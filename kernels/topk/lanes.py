"""One thread's part of a search by an int8 index (index.py): queries in words, groups in turn."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
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
    mean: Tensor
    scale: Tensor

    @property
    def coded(self) -> native.Coded:
        """The same for native.c."""


class Run:
    """Indexes that are searched one after the other, their groups numbered through.

    Args:
        parts: those indexes.
        base: number of the first one's first row.
    """

    def __init__(self, parts: Sequence[Coded], base: int) -> None:
        self.parts = parts
        sizes = [len(part.rows) for part in parts]
        self._bases = [base, *(base + rows for rows in accumulate(sizes[:-1]))]
        self._ends = list(accumulate(len(part.scale) for part in parts))
        self.means = torch.stack([part.mean for part in parts])

    def __len__(self) -> int:
        """Groups of all of them."""
        return self._ends[-1]

    def spans(self, first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, base, and first and last (exclusive) own group, of the parts in some groups."""
        at = bisect_right(self._ends, first)
        while first < last:
            begin = self._ends[at] - len(self.parts[at].scale)
            until = min(last, self._ends[at])
            yield at, self._bases[at], first - begin, until - begin
            first, at = until, at + 1


@dataclass(frozen=True)
class Words:
    """Quantised queries, ``queries = step * words + remainder``, padded for vector loads."""

    queries: Tensor
    words: Tensor
    shift: Tensor
    step: Tensor
    per_step: Tensor
    norm: Tensor
    remainder: Tensor

    @classmethod
    def of(cls, queries: Tensor) -> "Words":
        """Quantise queries [Q, D]."""
        step = _scale(queries, native.most_word())
        words = (queries / step[:, None]).round_()
        least = least_norm(queries.shape[1])
        norm = queries.norm(dim=1) + least
        remainder = (queries - words * step[:, None]).norm(dim=1) + least
        # Slack for the rounding of the remainder itself.
        remainder += norm * 4 * torch.finfo(torch.float32).eps
        narrow = torch.nn.functional.pad(words, (0, -words.shape[1] % 4)).to(torch.int8)
        shift = -128 * narrow.sum(1, dtype=torch.int32)
        floats = [_padded(x) for x in (step, 1 / step, norm, remainder)]
        return cls(queries, narrow, shift, *floats)


class Lane:
    """One thread's part of a search: some queries, some groups, and the best of them so far.

    Args:
        run: what is searched.
        words: for which queries.
        best: of what was searched before; it is added to.
        share: the first of the groups that are searched, and the one after the last.
    """

    def __init__(self, run: Run, words: Words, best: Best, share: tuple[int, int]) -> None:
        self.group, self.last = share
        self._run, self._words, self._best = run, words, best
        self._heap = best.keys.flip(1)  # An ascending row is a heap.
        self._gap = torch.full_like(words.norm, -torch.inf)
        self._centres = _padded(run.means @ words.queries.T)
        self._state = _state(words, self._heap, self._gap)
        queries, k = best.keys.shape
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

    def tasks(self) -> list[native.Task]:
        """The groups taken on, as native.c searches them: as long as bounds rule out enough."""
        step = self._centres.stride(0) * self._centres.element_size()
        return [
            native.Task(
                self._state, low, high, self._run.parts[part].coded, base,
                self._centres.data_ptr() + part * step,
            )
            for part, base, low, high in self._run.spans(self.group, self._end)
        ]  # fmt: skip

    def advance(self, stops: list[int], tasks: list[native.Task]) -> None:
        """Take note of how far native.c went."""
        self.group += sum(stop - task.first for stop, task in zip(stops, tasks, strict=True))

    def settle(self) -> None:
        """Do in float32 what is left of these groups."""
        if self.group == self._end:
            return
        best = self.result()
        for part, base, first, last in self._run.spans(self.group, self._end):
            rows = self._run.parts[part].rows[first * GROUP : last * GROUP]
            for low, block in blocks_of(rows):
                score_block(best, self._words.queries, block.float(), base + first * GROUP + low)
        self._heap.copy_(best.keys.flip(1))
        self.group = self._end
        if self._tried:
            self._retry = 2 * self._end - self._first
            self._state.seen = self._state.scored = 0

    def result(self) -> Best:
        """The best so far, in order."""
        self._best.keep(self._heap.sort(1, descending=True).values)
        return self._best


def _state(words: Words, heap: Tensor, gap: Tensor) -> native.Search:
    """What native.c is given; all of it must outlive the calls."""
    assert len(words.norm) <= MOST
    return native.Search(
        count=len(words.queries),
        padded=len(words.norm),
        k=heap.shape[1],
        **native.pointers(**vars(words), keys=heap, gap=gap),
    )


def _scale(rows: Tensor, most: int) -> Tensor:
    """The scale [n] that makes integers up to ``most`` (1 where one over it would overflow)."""
    scale = rows.abs().amax(1) / most
    return torch.where(scale > LEAST_SCALE, scale, 1.0)


def least_norm(dim: int) -> float:
    """What squares that underflow in float32 may hide of a norm."""
    return 2 * float((dim * torch.finfo(torch.float32).tiny) ** 0.5)


def _padded(values: Tensor) -> Tensor:
    return torch.nn.functional.pad(values, (0, -values.shape[-1] % PAD))
