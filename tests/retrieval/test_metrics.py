"""Metrics: hand-made answers, naive loops, ties, and the authors' own figures."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c4c.errors import C4CError
from c4c.retrieval.metrics import (
    rank_targets,
    retrieval_metrics,
    retrieval_ranks,
    twin_accuracy,
    twin_wins,
)

GOLDEN = Path(os.environ.get("C4C_GOLDEN") or Path(__file__).parents[1] / "data" / "golden")
NAMES = {"R1": "r1", "R5": "r5", "R10": "r10", "MR": "median_rank", "MeanR": "mean_rank"}


@pytest.mark.golden
@pytest.mark.parametrize("ties", ["expected", "authors"])
@pytest.mark.parametrize("case", ["single", "multi"])
def test_golden_metrics_are_the_authors(case: str, ties: str) -> None:
    held = np.load(GOLDEN / "metrics.npz")
    similarity = held[f"{case}.sim"]
    owners = np.arange(50) if case == "single" else held["multi.video_of_caption"]
    found = retrieval_metrics(similarity, owners, ties)
    for way, (theirs, ours) in itertools.product(("t2v", "v2t"), NAMES.items()):
        expected = float(held[f"{case}.{way}.{theirs}"])
        assert getattr(found[way], ours) == pytest.approx(expected, rel=1e-5), (way, theirs)


def test_a_hand_made_matrix() -> None:
    similarity = np.array([[3, 2, 1], [3, 2, 1], [1, 2, 3]], float)
    found = retrieval_metrics(similarity, np.arange(3))["t2v"]
    assert found.r1 == pytest.approx(200 / 3)
    assert found.r5 == 100
    assert found.mean_rank == pytest.approx(4 / 3)
    assert found.median_rank == 1
    assert found.rsum == pytest.approx(200 / 3 + 200)


@pytest.mark.parametrize("size", [1, 7, 200])
def test_a_constant_similarity_scores_chance(size: int) -> None:
    found = retrieval_metrics(np.zeros((size, size)), np.arange(size))
    for metrics in found.values():
        assert metrics.r1 == pytest.approx(100 / size)
        assert metrics.r10 == pytest.approx(100 * min(10, size) / size)
        assert metrics.mean_rank == pytest.approx((size + 1) / 2)


def test_the_authors_column_gives_tied_queries_several_ranks() -> None:
    similarity = np.zeros((4, 4))
    assert retrieval_metrics(similarity, np.arange(4), "authors")["t2v"].r1 == 25
    similarity = np.array([[1.0, 1.0], [0.0, 1.0]])
    found = retrieval_metrics(similarity, np.arange(2), "authors")["t2v"]
    assert found.r1 == pytest.approx(200 / 3)  # three ranks for two queries


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    clips, captions = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    values = st.lists(st.integers(0, 3), min_size=clips, max_size=clips)
    rows = draw(st.lists(values, min_size=captions, max_size=captions))
    owners = draw(st.lists(st.integers(0, clips - 1), min_size=captions, max_size=captions))
    return np.array(rows, float), np.array(owners)


@given(matrices())
def test_ranks_equal_the_average_over_every_order_of_ties(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    similarity, owners = case
    ranks = retrieval_ranks(similarity, owners)["t2v"]
    for row, owner in enumerate(owners):
        positions = []
        for order in itertools.permutations(range(similarity.shape[1])):
            ranked = sorted(order, key=lambda clip: -similarity[row, clip])
            positions.append(ranked.index(owner) + 1)
        assert ranks.expected()[row] == pytest.approx(np.mean(positions))
        for k in (1, 2, 5):
            within = np.clip((k - ranks.ahead[row]) / ranks.ties[row], 0, 1)
            assert within == pytest.approx(np.mean(np.array(positions) <= k))


@given(matrices())
def test_a_clip_looks_for_the_group_with_the_best_caption(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    similarity, owners = case
    ranks = retrieval_ranks(similarity, owners)["v2t"].expected()
    captioned = sorted(set(owners.tolist()))
    for place, clip in enumerate(captioned):
        best = {c: max(similarity[owners == c, clip]) for c in captioned}
        higher = sum(score > best[clip] for score in best.values())
        same = sum(score == best[clip] for score in best.values())
        assert ranks[place] == higher + (same + 1) / 2


def test_nan_is_refused_by_query() -> None:
    similarity = np.zeros((3, 3))
    similarity[1, 2] = np.nan
    with pytest.raises(C4CError, match="number 1"):
        rank_targets(similarity, np.arange(3))


def test_a_gallery_that_misses_clips_says_so() -> None:
    found = retrieval_metrics(np.eye(8), np.arange(8), gallery_expected=10)
    assert (found["t2v"].gallery, found["t2v"].gallery_expected) == (8, 10)


def test_twins_that_cannot_be_told_apart_are_half_right() -> None:
    owners, twins = np.arange(4), np.array([1, 0, 3, 2])
    for similarity, share in ((np.zeros((4, 4)), 50), (np.eye(4), 100), (-np.eye(4), 0)):
        assert twin_accuracy(twin_wins(similarity, owners, twins)) == share
    alone = twin_wins(np.eye(4), owners, np.array([1, 0, -1, -1]))
    assert alone.tolist()[:2] == [1, 1]
    assert np.isnan(alone[2:]).all()
    assert twin_accuracy(alone[2:]) is None


def test_no_captions_is_an_error() -> None:
    with pytest.raises(C4CError, match="no caption"):
        retrieval_metrics(np.zeros((0, 3)), np.array([], int))
