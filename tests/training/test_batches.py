"""Which pairs stand in a batch: a pure function of seed and epoch, and never two right answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c4c.training.batches import Indices, epoch_batches, group_batches


def rows(batches: list[Indices]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


def numbered(count: int) -> list[str]:
    return [f"t{number:03}" for number in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    clips=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    words=st.lists(st.integers(0, 12), min_size=40, max_size=40),
    size=st.integers(1, 8),
    seed=st.integers(0, 5),
)
def test_no_clip_and_no_sentence_stands_twice_in_a_batch(
    clips: list[int], words: list[int], size: int, seed: int
) -> None:
    """And every batch is full, or it is the only one; no caption is shown twice in an epoch."""
    clip_of, texts = [str(one) for one in clips], [str(one) for one in words[: len(clips)]]
    batches = rows(epoch_batches(clip_of, texts, size, seed, 0))
    for batch in batches:
        assert len({clip_of[row] for row in batch}) == len(batch)
        assert len({texts[row] for row in batch}) == len(batch)
    assert [len(batch) for batch in batches[1:]] == [size] * (len(batches) - 1)
    assert 1 <= len(batches[0]) <= size
    shown = [row for batch in batches for row in batch]
    assert len(set(shown)) == len(shown)


def test_two_equal_sentences_of_different_clips_do_not_meet() -> None:
    batches = epoch_batches(["a", "b", "c", "d"], ["same", "same", "x", "y"], 2, 0, 0)
    assert len(batches) == 2
    assert all(set(batch) != {0, 1} for batch in rows(batches))


def test_a_pair_that_does_not_fit_waits_for_the_next_batch() -> None:
    """Of two clips with three captions each, every batch of two takes one of each."""
    for seed in range(5):
        batches = rows(epoch_batches(list("aaabbb"), numbered(6), 2, seed, 0))
        assert sorted(row for batch in batches for row in batch) == list(range(6))


@pytest.mark.parametrize(("count", "lengths"), [(10, [4, 4]), (8, [4, 4]), (3, [3]), (4, [4])])
def test_short_batches_are_dropped_unless_none_would_be_left(
    count: int, lengths: list[int]
) -> None:
    names = numbered(count)
    assert [len(batch) for batch in epoch_batches(names, names, 4, 0, 0)] == lengths


def test_only_the_first_short_batch_is_kept() -> None:
    batches = epoch_batches(["a"] * 5, numbered(5), 4, 0, 0)
    assert [len(batch) for batch in batches] == [1]


@pytest.mark.parametrize("one_each", [False, True])
def test_the_order_is_a_function_of_seed_and_epoch(one_each: bool) -> None:
    clip_of = [f"c{number % 20:02}" for number in range(60)]

    def drawn(seed: int, epoch: int) -> list[int]:
        batches = epoch_batches(clip_of, numbered(60), 20, seed, epoch, one_each)
        return np.concatenate(batches).tolist()

    assert drawn(0, 0) == drawn(0, 0)
    orders = [drawn(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len({tuple(order) for order in orders}) == 6
    by_clip = [[clip_of[row] for row in order] for order in orders]
    assert len({tuple(order) for order in by_clip}) == 6  # not only which, also in which order
    assert all(order != sorted(order) for order in by_clip)
    assert all(len(order) == (20 if one_each else 60) for order in orders)


def test_of_a_clip_each_caption_is_drawn_as_often() -> None:
    clip_of = ["a", "a", "a", "b"]
    drawn = [
        row
        for epoch in range(300)
        for row in np.concatenate(epoch_batches(clip_of, numbered(4), 2, 0, epoch, True))
    ]
    counts = np.bincount(drawn)
    assert counts[3] == 300
    assert (np.abs(counts[:3] - 100) < 35).all()  # four deviations


def test_groups_are_whole_by_hand() -> None:
    """Successive stretches in a row; the last group reaches back, a short video repeats."""
    stretches = [("v", 4.0), ("v", 0.0), ("w", 1.0), ("v", 2.0)]
    found = {
        tuple(group)
        for epoch in range(9)
        for batch in group_batches(stretches, 2, 2, 0, epoch)
        for group in batch.reshape(-1, 2).tolist()
    }
    assert found == {(1, 3), (3, 0), (2, 2)}
    assert rows(group_batches([("w", 0.0), ("v", 0.0)], 2, 1, 0, 0)) in ([[0, 1]], [[1, 0]])
