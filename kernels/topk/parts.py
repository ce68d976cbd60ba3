"""Search of int8 indexes (index.py), one or several as one gallery, on torch's threads.

What an index has found is where the next one starts: its k-th best score rules out rows there.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels import native
from c4c.kernels.dispatch import check_same
from c4c.kernels.topk.blocks import OP, blocks_of, score_block, search_blocks
from c4c.kernels.topk.lanes import Coded, Lane, Words
from c4c.kernels.topk.select import INDEX_MASK, Best

# Queries that one thread looks for at a time (their words stay in its cache); with fewer than
# FEW, threads share the rows instead.
QUERIES = 512
FEW = 48


class Part(Coded, Protocol):
    """An index among others."""

    mean: Tensor

    def __len__(self) -> int: ...


def search_parts(parts: Sequence[Part], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Scores float32 [Q, k] and indices int64 [Q, k] of the k best rows, best first.

    Args:
        parts: their rows are numbered through, in this order.
        queries: vectors [Q, D].
        k: how many.

    Raises:
        C4CError: widths differ, or there are 2**32 rows or more.
    """
    for part in parts:
        check_same(OP, "widths", queries.shape[1], part.rows.shape[1], "use one backbone for both")
    if sum(map(len, parts)) > INDEX_MASK:
        raise C4CError(f"{OP}: the gallery has more than {INDEX_MASK} rows; split it.")
    if not len(queries) or all(part.codes is None for part in parts):
        return search_blocks(queries, _plain_blocks(parts), k)
    asked = queries.to("cpu", torch.float32).contiguous()
    threads = torch.get_num_threads()
    size = len(asked) if len(asked) < FEW else min(QUERIES, -(-len(asked) // threads))
    results = [
        best.result()
        for some in torch.split(asked, size * threads)
        for best in _search(parts, [Words.of(own) for own in torch.split(some, size)], k)
    ]
    scores, indices = (torch.cat(column) for column in zip(*results, strict=True))
    return scores.to(queries.device), indices.to(queries.device)


def _plain_blocks(parts: Sequence[Part]) -> Iterator[tuple[int, Tensor]]:
    first = 0
    for part in parts:
        yield from ((first + low, block) for low, block in blocks_of(part.rows))
        first += len(part)


def _search(parts: Sequence[Part], words: list[Words], k: int) -> list[Best]:
    """The best rows of all parts for each group of queries."""
    bests = [Best(len(own.queries), k, own.queries.device) for own in words]
    first = 0
    for part in parts:
        if part.codes is None:
            for best, own in zip(bests, words, strict=True):
                for low, block in blocks_of(part.rows):
                    score_block(best, own.queries, block.float(), first + low)
        elif len(words) == 1 and len(words[0].queries) < FEW:
            bests = [_by_shares(part, words[0], bests[0], first)]
        else:
            every = (0, len(part.scale))
            pairs = zip(words, bests, strict=True)
            bests = _run(
                [Lane(part, own.about(part.mean), best, every, first) for own, best in pairs]
            )
        first += len(part)
    return bests


def _by_shares(part: Part, words: Words, best: Best, first: int) -> Best:
    """The best so far and of a part, of which each thread searches a share."""
    own = words.about(part.mean)
    shares = split_evenly(len(part.scale), torch.get_num_threads())
    # What was found before is held by one of them, and is a threshold to the others.
    held = [best, *(best.floor() for _ in shares[1:])]
    found = _run([Lane(part, own, *one, first) for one in zip(held, shares, strict=True)])
    best.keep(torch.cat([one.keys for one in found], 1).topk(best.keys.shape[1], 1).values)
    return best


def _run(lanes: list[Lane]) -> list[Best]:
    """The best of what each lane searches; side by side."""
    while any(lane.group < lane.last for lane in lanes):
        ready = [lane for lane in lanes if lane.by_bounds()]
        stops = native.together("search", [lane.task for lane in ready])
        for lane, stop in zip(ready, stops, strict=True):
            lane.group = stop
        for lane in lanes:
            lane.settle()
    return [lane.result() for lane in lanes]


def split_evenly(count: int, parts: int) -> list[tuple[int, int]]:
    """``count`` things in ``parts`` runs of nearly equal length, some of them empty."""
    return list(pairwise(count * part // parts for part in range(parts + 1)))
