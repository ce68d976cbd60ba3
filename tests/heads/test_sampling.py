import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c4c.core.errors import C4CError
from c4c.core.sampling import ORDERS, SAMPLERS, order_frames, select_frames


@pytest.mark.parametrize(
    ("how", "expected"),
    [("head", [0, 1, 2]), ("tail", [7, 8, 9]), ("uniform", [0, 4, 9])],
)
def test_three_of_ten_frames(how: str, expected: list[int]) -> None:
    assert select_frames(10, 3, how).tolist() == expected


@given(st.integers(0, 200), st.integers(1, 80), st.sampled_from(sorted(SAMPLERS)))
def test_chosen_frames_are_distinct_rising_and_inside(count: int, limit: int, how: str) -> None:
    chosen = select_frames(count, limit, how)
    assert chosen.dtype == np.int64
    assert len(chosen) == min(count, limit)
    assert (np.diff(chosen) > 0).all()
    assert len(chosen) == 0 or (chosen[0] >= 0 and chosen[-1] < count)


@given(st.integers(0, 80), st.integers(80, 100), st.sampled_from(sorted(SAMPLERS)))
def test_every_frame_is_taken_when_they_fit(count: int, limit: int, how: str) -> None:
    assert select_frames(count, limit, how).tolist() == list(range(count))


def test_orders_of_frames() -> None:
    chosen = select_frames(5, 9, "uniform")
    assert order_frames(chosen).tolist() == [0, 1, 2, 3, 4]
    assert order_frames(chosen, "reverse").tolist() == [4, 3, 2, 1, 0]
    drawn = [order_frames(chosen, "random", np.random.default_rng(3)).tolist() for _ in "ab"]
    assert drawn[0] == drawn[1]
    assert sorted(drawn[0]) == [0, 1, 2, 3, 4]
    assert list(ORDERS) == ["ordinary", "reverse", "random"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: select_frames(5, 2, "middle"), "Known: head, tail, uniform"),
        (lambda: select_frames(5, 0, "head"), "at least 1"),
        (lambda: order_frames(np.arange(3), "shuffled"), "Known: ordinary"),
        (lambda: order_frames(np.arange(3), "random"), "generator"),
    ],
)
def test_wrong_settings_are_said(call, words: str) -> None:
    with pytest.raises(C4CError, match=words):
        call()
