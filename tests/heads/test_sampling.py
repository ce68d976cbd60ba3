import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c4c.core.errors import C4CError
from c4c.core.sampling import (
    ORDERS,
    SAMPLERS,
    order_frames,
    rate_of,
    select_frames,
    thin_frames,
)


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


def test_of_more_frames_those_nearest_to_the_rate_are_taken() -> None:
    assert thin_frames(np.arange(9) / 4, 1).tolist() == [0, 4, 8]
    assert thin_frames(np.arange(7) / 3 + 5, 1.5).tolist() == [0, 2, 4, 6]
    uneven = np.array([0, 0.4, 0.9, 1.6, 2.2, 2.9, 7.0], np.float32)
    assert thin_frames(uneven, 1).tolist() == [0, 2, 4, 5, 6]  # none twice across a gap
    assert thin_frames(np.zeros(0, np.float32), 1).tolist() == []


@pytest.mark.parametrize(("line", "rate"), [
    ("fps=1 max=None uniform", 1.0), ("fps=0.25 max=12 head words=77", 0.25), ("", None),
    ("fps=0 max=None", None), ("fps=1.2.3", None), ("fps=nan", None), ("xfps=3", None),
])  # fmt: skip
def test_a_fingerprint_says_how_many_frames_a_second(line: str, rate: float | None) -> None:
    assert rate_of(line) == rate
