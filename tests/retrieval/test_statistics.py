"""Intervals hold what they say, clusters widen them, and several tests are corrected."""

import numpy as np
import pytest

from c4c.retrieval.statistics import holm, interval


def test_no_difference_is_never_significant() -> None:
    found = interval(np.zeros(50))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_steady_difference_is_significant() -> None:
    found = interval(np.full(50, 2.0))
    assert (found.low, found.high) == (2, 2)
    assert found.p < 0.001


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for seed in range(100):
        found = interval(generator.normal(0.5, 1, 60), seed=seed, draws=400)
        inside += found.low <= 0.5 <= found.high
    assert inside >= 88  # 95 expected; 88 is three deviations below


def test_queries_that_stand_or_fall_together_do_not_count_as_many() -> None:
    values = np.random.default_rng(0).normal(0, 1, 50)
    alone = interval(values)
    copied = interval(np.repeat(values, 9), [str(place) for place in np.repeat(np.arange(50), 9)])
    assert copied.value == pytest.approx(alone.value)
    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.1)
    naive = interval(np.repeat(values, 9))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_clusters_of_unequal_size_keep_the_mean_over_queries() -> None:
    found = interval(np.array([1.0, 1.0, 1.0, 5.0]), ["a", "a", "a", "b"])
    assert found.value == 2
    assert (found.low, found.high) == (1, 5)


def test_holm_corrects_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
