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
    one_each: bool = False,
) -> list[Indices]:
    """Batches of one epoch.

    Args:
        clip_of: clip id of each caption [N].
        texts: the captions [N].
        size: pairs a batch.
        seed: of the run.
        epoch: counted from 0.
        one_each: only one caption of each clip, drawn anew every epoch.

    Returns:
        Arrays of caption numbers, each ``size`` long (or one shorter one if N is too small).
    """
    order = np.random.default_rng([seed, epoch]).permutation(len(clip_of))
    if one_each:
        _, first = np.unique(np.array(clip_of)[order], return_index=True)
        order = order[np.sort(first)]
    batches = list(_fill(order, clip_of, texts, size))
    full = [batch for batch in batches if len(batch) == size]
    return full or batches[:1]


def group_batches(
    stretches: Sequence[tuple[str, float]], size: int, pairs: int, seed: int, epoch: int
) -> list[Indices]:
    """Batches of groups: ``pairs`` successive stretches of a video stand in a row.

    A video's last group reaches back when stretches are left over; a video with fewer repeats
    its own. No video stands twice in a batch.

    Args:
        stretches: (video, start) of each caption's clip [N].
        size: captions a batch, a multiple of ``pairs``.
        pairs: captions a group.
        seed: of the run.
        epoch: counted from 0.

    Returns:
        Arrays of caption numbers, each ``size`` long (or one shorter one if N is too small).
    """
    of_video: dict[str, list[int]] = {}
    for row in sorted(range(len(stretches)), key=lambda row: stretches[row]):
        of_video.setdefault(stretches[row][0], []).append(row)
    groups, videos = [], []
    for video, rows in of_video.items():
        rows = (rows * pairs)[: max(pairs, len(rows))]
        for low in range(0, len(rows), pairs):
            low = min(low, len(rows) - pairs)
            groups.append(rows[low : low + pairs])
            videos.append(video)
    names = [str(number) for number in range(len(groups))]
    found = epoch_batches(videos, names, size // pairs, seed, epoch)
    table = np.array(groups, np.int64)
    return [table[batch].ravel() for batch in found]


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
