"""Which pairs make a batch: a pure function of seed and epoch, so that a run can go on anywhere.

Policy: an epoch shows every caption once, and within one batch no clip and no sentence stands
twice, because a second caption of a clip would be punished as a wrong answer for it. A pair
that does not fit is kept for the next batch. Batches that stay short at the end of an epoch
are dropped (they weigh their few pairs too much), unless no batch would be left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def epoch_batches(
    clip_of: Sequence[str],
    texts: Sequence[str],
    size: int,
    seed: int,
    epoch: int,
) -> list[Indices]:
    """Batches of one epoch.

    Args:
        clip_of: clip id of each caption [N].
        texts: the captions [N].
        size: pairs a batch.
        seed: of the run.
        epoch: counted from 0.

    Returns:
        Arrays of caption numbers, each ``size`` long (or one shorter one if N is too small).
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(clip_of))
    batches = list(_fill(order, clip_of, texts, size))
    full = [batch for batch in batches if len(batch) == size]
    return full or batches[:1]


def _fill(
    order: Indices, clip_of: Sequence[str], texts: Sequence[str], size: int
) -> Iterator[Indices]:
    """Fill one batch after the other; what clashes waits at the head of the queue."""
    waiting: list[int] = []
    fresh = iter(order.tolist())
    while True:
        batch: list[int] = []
        seen: set[tuple[str, str]] = set()
        late: list[int] = []
        for number in _chain(waiting, fresh):
            keys = {("clip", clip_of[number]), ("text", texts[number])}
            if keys & seen:
                late.append(number)
                continue
            seen |= keys
            batch.append(number)
            if len(batch) == size:
                break
        if not batch:
            return
        taken = set(batch)
        done = set(late)
        waiting = late + [n for n in waiting if n not in taken and n not in done]
        yield np.array(batch, np.int64)


def _chain(waiting: list[int], fresh: Iterator[int]) -> Iterator[int]:
    yield from waiting
    yield from fresh
