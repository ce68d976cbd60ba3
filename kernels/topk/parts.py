"""Search of int8 indexes (index.py), one or several as one gallery, on torch's threads.

What an index has found is where the next one starts: its k-th best score rules out rows there.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Protocol

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels import native
from c4c.kernels.dispatch import check_same
from c4c.kernels.topk.blocks import OP, blocks_of, score_block, search_blocks
from c4c.kernels.topk.lanes import Coded, Lane, Run, Words
from c4c.kernels.topk.select import INDEX_MASK, Best

# Queries that one thread looks for at a time (their words stay in its cache); with fewer than
# FEW, threads share the rows instead.
QUERIES = 512
FEW = 48


class Part(Coded, Protocol):
    """An index; one without codes is searched in float32."""

    codes: Tensor | None

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
    few = len(words) == 1 and len(words[0].queries) < FEW
    first = 0
    for coded, some in groupby(parts, lambda part: part.codes is not None):
        neighbours = list(some)
        if not coded:
            for best, own in zip(bests, words, strict=True):
                for low, block in _plain_blocks(neighbours):
                    score_block(best, own.queries, block.float(), first + low)
        elif few:
            _by_shares(Run(neighbours, first), words[0], bests[0])
        else:
            run = Run(neighbours, first)
            _race([Lane(run, *pair, (0, len(run))) for pair in zip(words, bests, strict=True)])
        first += sum(map(len, neighbours))
    return bests


def _by_shares(run: Run, words: Words, best: Best) -> None:
    """Add what a run has to the best; each thread searches a share."""
    shares = split_evenly(len(run), torch.get_num_threads())
    # What was found before is held by one of them, and is a threshold to the others.
    held = [best, *(best.floor() for _ in shares[1:])]
    _race([Lane(run, words, *one) for one in zip(held, shares, strict=True)])
    best.keep(torch.cat([one.keys for one in held], 1).topk(best.keys.shape[1], 1).values)


def _race(lanes: list[Lane]) -> None:
    """Add to the best of each lane what it searches; side by side."""
    while any(lane.group < lane.last for lane in lanes):
        ready = [lane for lane in lanes if lane.by_bounds()]
        chains = [lane.tasks() for lane in ready]
        for lane, chain, stops in zip(
            ready, chains, native.together("search", chains), strict=True
        ):
            lane.advance(stops, chain)
        for lane in lanes:
            lane.settle()
    for lane in lanes:
        lane.result()


def split_evenly(count: int, parts: int) -> list[tuple[int, int]]:
    """``count`` things in ``parts`` runs of nearly equal length, some of them empty."""
    return list(pairwise(count * part // parts for part in range(parts + 1)))
