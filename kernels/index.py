"""An int8 copy of a gallery that makes exact search on a CPU several times faster.

Every row ``g`` is stored as ``g = mean + scale * code + rest`` with int8 codes (one scale
for a group of neighbouring rows), and every query as ``q = step * word + remainder``. By
Cauchy–Schwarz the exact score lies within

    |remainder| * |scale * code| + |q| * |rest|

of ``q . mean + step * scale * (word . code)``, whose last factor is an exact product of
integers. Rows whose upper bound is below the k-th best score found so far cannot be among
the k best; the others are scored again in float32. So the answer is that of brute force,
whatever the data; only the time depends on it. Where the bound prunes too little, blocks
are done in float32 and the bound is tried again when twice as many rows have been seen.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from c4c.errors import C4CError
from c4c.kernels.dispatch import check_matrix, check_same
from c4c.kernels.int8 import fast_int8, quantise
from c4c.kernels.select import Best, pack_keys, unpack_keys
from c4c.kernels.topk import OP, blocks_of, check_finite, score_block, search_blocks

# Neighbouring rows that share a scale and are looked at together first.
GROUP = 32
# Queries at a time, and scores (queries times rows) at a time: int32, they stay in cache.
QUERIES = 1024
SCORES = 1 << 22
# Rows of one step of building: a multiple of GROUP.
PART = 512
# Smaller galleries are searched in float32.
SMALLEST = 1024
# Blocks for which the best groups are scored first, for a threshold to begin with.
EARLY = 3
# The most of a block's pairs that the bound may let pass; beyond, float32 is as fast.
MOST_PAIRS = 0.08
# Pairs that wait at a time, and the most of all pairs that may then still need scoring.
LATER = 1 << 20
MOST_AGAIN = 0.01
# Pairs scored again at a time: their rows stay in the cache.
PAIRS = 1024
# In the place of a product: this pair was scored. Below any product of int8 rows.
SCORED = -(1 << 31)


@dataclass(frozen=True)
class _Words:
    """Quantised queries: ``queries = step * words + remainder``."""

    queries: Tensor
    words: Tensor
    step: Tensor
    norm: Tensor
    remainder: Tensor
    centre: Tensor


class GalleryIndex:
    """A gallery prepared for exact search; pass it to `topk_similarity`.

    Takes a quarter of a float32 gallery (plus 12 bytes a row) beside the gallery itself,
    which stays where it is (memory-mapped arrays too) and must not be changed.

    Args:
        gallery: rows [N, D], a tensor or an array; float16, bfloat16 or float32.

    Raises:
        C4CError: the shape does not fit, or a row is NaN or infinite.
    """

    def __init__(self, gallery: Tensor | np.ndarray[Any, Any]) -> None:
        self.rows = _share(gallery)
        self.codes: Tensor | None = None
        # torch._int_mm (2.14, CPU) returns wrong products for rows of width 1.
        if fast_int8() and len(self.rows) > SMALLEST and self.rows.shape[1] > 1:
            self._build()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes held beside the gallery."""
        if self.codes is None:
            return 0
        held = (self.codes, self.mean, self._scale, self._row_bounds, self._group_bounds)
        return sum(t.numel() * t.element_size() for t in held)

    def search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores float32 [Q, k] and indices int64 [Q, k] of the k best rows, best first."""
        check_same(OP, "widths", queries.shape[1], self.rows.shape[1], "use one backbone for both")
        if self.codes is None or not len(queries):
            return search_blocks(queries, blocks_of(self.rows), k)
        parts = [self._search(part, k) for part in torch.split(queries.float(), QUERIES)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def _build(self) -> None:
        count, dim = self.rows.shape
        total = torch.zeros(dim, dtype=torch.float64)
        for first, part in _parts(self.rows):
            now = part.sum(0, dtype=torch.float64)
            if not bool(torch.isfinite(now).all()):
                check_finite(part, "gallery row", first)
            total += now
        self.mean = (total / count).float()
        groups = count // GROUP
        self.codes = torch.empty(groups * GROUP, dim, dtype=torch.int8)
        self._scale = torch.empty(groups)
        self._row_bounds = torch.empty(groups, 2, GROUP)
        for first, part in _parts(self.rows[: groups * GROUP]):
            group = slice(first // GROUP, (first + len(part)) // GROUP)
            self._build_block(part, self.codes[first : first + len(part)], group)
        self._group_bounds = self._row_bounds.amax(2).T.contiguous()

    def _build_block(self, block: Tensor, codes: Tensor, groups: slice) -> None:
        centred = block.float() - self.mean
        # One scale a group: then its largest product bounds all of its rows.
        flat, scale = quantise(centred.view(-1, GROUP * block.shape[1]))
        codes.copy_(flat.view(codes.shape))
        product = codes.float().mul_(scale.repeat_interleave(GROUP)[:, None])
        # What float32 may round away: of the exact score, of q . mean and of the bound.
        rounding = 4 * (block.shape[1] + 8) * torch.finfo(torch.float32).eps
        slack = (block.float().norm(dim=1) + self.mean.norm()) * rounding
        bounds = (product.norm(dim=1), centred.sub_(product).norm(dim=1) + slack)
        self._scale[groups] = scale
        self._row_bounds[groups] = torch.stack([b.view(-1, GROUP) for b in bounds], 1)

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        best = Best(len(queries), k, queries.device)
        words = self._words(queries)
        count = len(self.rows) // GROUP * GROUP
        most = max(GROUP, SCORES // len(queries) // GROUP * GROUP)
        buffer = torch.empty(len(queries) * min(most, count), dtype=torch.int32)
        later: list[_Pairs] = []
        low = retry = begin = 0
        while low < count:
            high = min(count, low + most)
            pairs = self._bounded(best, words, low, high, buffer) if low >= retry else None
            if pairs is None:
                retry = retry if low < retry else 2 * high
                self._exactly(best, queries, low, high)
            else:
                later.append(pairs)
            if sum(len(p.who) for p in later) > LATER or high == count:
                if not self._settle(best, queries, later, begin, high):
                    retry = 2 * high
                later, begin = [], high
            low = high
        self._exactly(best, queries, count, len(self.rows))
        return best.result()

    def _words(self, queries: Tensor) -> _Words:
        words, step = quantise(queries)
        norm = queries.norm(dim=1)
        remainder = (queries - words.float() * step[:, None]).norm(dim=1)
        # Slack for the rounding of the remainder itself.
        remainder += norm * 4 * torch.finfo(torch.float32).eps
        return _Words(queries, words, step, norm, remainder, queries @ self.mean)

    def _exactly(self, best: Best, queries: Tensor, low: int, high: int) -> None:
        for first, block in blocks_of(self.rows[low:high]):
            score_block(best, queries, block.float(), low + first)

    def _bounded(
        self, best: Best, words: _Words, low: int, high: int, buffer: Tensor
    ) -> "_Pairs | None":
        """Offer rows ``low`` to ``high`` by their bounds; None if the bounds do not prune.

        Returns the pairs that may be among the k best but probably are not: they wait, and
        most of them fall to the threshold of the end without ever being scored.
        """
        assert self.codes is not None
        out = buffer[: len(words.words) * (high - low)].view(-1, high - low)
        products = torch._int_mm(words.words, self.codes[low:high].T, out=out)
        groups = products.view(len(products), -1, GROUP)
        largest = groups.amax(2)
        keys = best.keys
        early = low < EARLY * (high - low) and keys.shape[1] <= largest.shape[1]
        if early:
            keys = best.merged(self._leads(words, groups, largest, low, keys.shape[1]))
        threshold = unpack_keys(keys[:, -1])[0]
        who, where = self._passing(words, largest, threshold, low // GROUP)
        flat = groups.view(-1, GROUP).index_select(0, who * groups.shape[1] + where)
        middle, upper = self._interval(words, flat, who, where + low // GROUP)
        if early:
            upper.masked_fill_(flat == SCORED, -torch.inf)
        hit, member = (upper >= threshold[who, None]).nonzero(as_tuple=True)
        if len(hit) > MOST_PAIRS * products.numel():
            return None
        pairs = _Pairs(who[hit], where[hit] * GROUP + member + low, upper[hit, member])
        best.keep(keys)
        likely = middle[hit, member] >= threshold[pairs.who]
        now = pairs.only(likely)
        best.add_pairs(now.who, self._score_pairs(words.queries, now), now.rows)
        return pairs.only(~likely & (pairs.upper >= best.threshold[pairs.who]))

    def _leads(self, words: _Words, groups: Tensor, largest: Tensor, low: int, k: int) -> Tensor:
        """Keys [Q, k] of the first row of each query's k best groups [Q, n, GROUP].

        Their products are marked, so that they are not offered again.
        """
        first = low // GROUP
        reach = largest * self._scale[first : first + groups.shape[1]]
        group = reach.topk(k, 1).indices
        flat = (torch.arange(len(groups))[:, None] * groups.shape[1] + group).flatten()
        member = groups.view(-1, GROUP).index_select(0, flat).argmax(1)
        groups.view(-1)[flat * GROUP + member] = SCORED
        rows = group.flatten() * GROUP + member + low
        who = torch.arange(len(groups)).repeat_interleave(k)
        scores = self._score_pairs(words.queries, _Pairs(who, rows, rows))
        return pack_keys(scores, rows).view(-1, k)

    def _settle(
        self, best: Best, queries: Tensor, later: "list[_Pairs]", low: int, high: int
    ) -> bool:
        """Score the pairs of rows ``low`` to ``high`` that waited and still may enter.

        Where they are too many the rows are done again in float32, and the answer is False.
        """
        pairs = [p.only(p.upper >= best.threshold[p.who]) for p in later]
        left = sum(len(p.who) for p in pairs)
        if left > MOST_AGAIN * (high - low) * len(queries):
            best.forget(low, high)
            self._exactly(best, queries, low, high)
            return False
        if left:
            every = _Pairs(*(torch.cat(field) for field in zip(*pairs, strict=True)))
            every = every.only(every.who.argsort(stable=True))
            best.add_pairs(every.who, self._score_pairs(queries, every), every.rows)
        return True

    def _passing(
        self, words: _Words, largest: Tensor, threshold: Tensor, first: int
    ) -> tuple[Tensor, Tensor]:
        """Query and group of the maxima [Q, n] whose bound reaches the threshold."""
        now = slice(first, first + largest.shape[1])
        length, error = self._group_bounds[:, now]
        width = torch.outer(words.remainder, length).addr_(words.norm, error)
        reach = width.addcmul_(largest, torch.outer(words.step, self._scale[now]))
        return (reach >= (threshold - words.centre)[:, None]).nonzero(as_tuple=True)  # type: ignore[return-value]

    def _interval(
        self, words: _Words, products: Tensor, who: Tensor, group: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Middle and upper end of the intervals [P, GROUP] that hold the exact scores."""
        length, error = self._row_bounds.index_select(0, group).unbind(1)
        factor = words.step[who] * self._scale[group]
        middle = torch.addcmul(words.centre[who, None], factor[:, None], products)
        half = length.mul_(words.remainder[who, None])
        return middle, half.add_(error.mul_(words.norm[who, None])).add_(middle)

    def _score_pairs(self, queries: Tensor, pairs: "_Pairs") -> Tensor:
        scores = torch.empty(len(pairs.who))
        for low in range(0, len(scores), PAIRS):
            part = slice(low, low + PAIRS)
            torch.linalg.vecdot(
                queries.index_select(0, pairs.who[part]),
                self.rows.index_select(0, pairs.rows[part]).float(),
                out=scores[part],
            )
        return scores


class _Pairs(NamedTuple):
    """Pairs [P] of a query (ascending) and a row, and an upper bound of their score."""

    who: Tensor
    rows: Tensor
    upper: Tensor

    def only(self, which: Tensor) -> "_Pairs":
        """The pairs that a mask or indices choose."""
        return _Pairs(*(field[which] for field in self))


def _parts(rows: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The rows a few at a time, with the index of the first: little memory, all in cache."""
    for first, block in blocks_of(rows):
        for low in range(0, len(block), PART):
            yield first + low, block[low : low + PART]


def _share(gallery: Tensor | np.ndarray[Any, Any]) -> Tensor:
    """The gallery as a tensor on the CPU, without a copy."""
    if not isinstance(gallery, Tensor):
        with warnings.catch_warnings():
            # Read-only memory maps: nothing here writes to them.
            warnings.simplefilter("ignore", UserWarning)
            gallery = torch.from_numpy(gallery)
    check_matrix(OP, "gallery", gallery)
    if gallery.device.type != "cpu":
        raise C4CError(f"{OP}: a GalleryIndex is for the CPU; pass the GPU tensor itself.")
    return gallery.detach()
