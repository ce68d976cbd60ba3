"""Intervals hold what they say, clusters widen them, and several tests are corrected."""

import itertools

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


@pytest.mark.parametrize("clusters", ["aabbbbcdd", "abcdefghi"])
def test_an_interval_is_that_of_every_way_to_draw_clusters(clusters: str) -> None:
    """All draws, and all flips of signs, enumerated; means are over queries, not clusters."""
    values = np.array([0.0, 1.0, 4.0, 5.0, 3.0, 4.0, -3.0, 1.0, 2.0])
    groups = [values[[one == name for one in clusters]] for name in sorted(set(clusters))]
    found = interval(values, None if len(groups) == 9 else list(clusters))
    assert found.value == pytest.approx(17 / 9)
    flipped = [
        sum(sign * group.sum() for sign, group in zip(signs, groups, strict=True)) / 9
        for signs in itertools.product((-1, 1), repeat=len(groups))
    ]
    as_far = np.mean(np.abs(flipped) >= 17 / 9 - 1e-9)
    assert found.p == pytest.approx(as_far, abs=0.02)  # four deviations of 10,000 draws
    if len(groups) == 4:
        drawn = itertools.product(groups, repeat=4)
        means = sorted(np.concatenate(some).mean() for some in drawn)
        assert means[3] < found.low <= means[8]  # 2.5 % of 256 are 6
        assert means[-9] <= found.high < means[-3]
        by_cluster = sorted(
            np.mean([group.mean() for group in some])
            for some in itertools.product(groups, repeat=4)
        )
        assert not means[3] < by_cluster[6] <= means[8]


def test_another_seed_draws_otherwise() -> None:
    values = np.random.default_rng(0).normal(0, 1, 50)
    one, same, other = (interval(values, seed=seed, draws=300) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_holm_corrects_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
