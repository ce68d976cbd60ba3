"""Metrics: hand-made answers, naive loops, ties, and the authors' own figures."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c4c.core.errors import C4CError
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


def the_authors(similarity: np.ndarray, owners: np.ndarray) -> dict[str, dict[str, float]]:
    """What their code prints with several captions a clip, told again step by step.

    A stack [clips, most captions, clips] is filled with -inf where a clip has fewer captions.
    Text to video: argsort, argsort again, the diagonal is each caption's rank. Video to text:
    the best of each group; the places where a sorted row equals its diagonal.
    """
    groups = [similarity[owners == clip] for clip in range(similarity.shape[1])]
    most = max(map(len, groups))
    filled = [
        np.concatenate((group, np.full((most - len(group), similarity.shape[1]), -np.inf)))
        for group in groups
    ]
    stack = torch.tensor(np.stack(filled))
    second = stack.permute(1, 0, 2).argsort(dim=-1, descending=True).argsort(dim=-1)
    ranks = torch.flatten(torch.diagonal(second, dim1=1, dim2=2))
    own = torch.flatten(torch.diagonal(stack, dim1=0, dim2=2))
    t2v = ranks[~(torch.isinf(own) | torch.isnan(own))].numpy()
    best = stack.max(dim=1).values.T.numpy()
    ordered, diagonal = np.sort(-best, axis=1), np.diag(-best)[:, None]
    v2t = np.where(ordered - diagonal == 0)[1]
    return {
        way: {
            **{f"r{k}": 100 * float((found < k).mean()) for k in (1, 5, 10)},
            "median_rank": float(middle(found)) + 1,
            "mean_rank": float(found.mean()) + 1,
        }
        for way, found, middle in (
            ("t2v", t2v, lambda ranks: torch.from_numpy(ranks).median()),
            ("v2t", v2t, np.median),
        )
    }


@pytest.mark.parametrize("seed", range(12))
def test_with_several_captions_a_clip_ties_count_as_in_the_authors_code(seed: int) -> None:
    generator = np.random.default_rng(seed)
    clips = int(generator.integers(2, 120))
    owners = np.sort(np.concatenate([np.arange(clips), generator.integers(0, clips, 3 * clips)]))
    similarity = generator.integers(0, 5, (len(owners), clips)).astype(np.float32)
    found = retrieval_metrics(similarity, owners, "authors")
    for way, figures in the_authors(similarity, owners).items():
        for name, value in figures.items():
            assert getattr(found[way], name) == pytest.approx(value, rel=1e-12), (way, name)


def test_the_port_of_the_authors_code_gives_their_golden_figures() -> None:
    held = np.load(GOLDEN / "metrics.npz")
    port = the_authors(held["multi.sim"], held["multi.video_of_caption"])
    for way, (theirs, ours) in itertools.product(("t2v", "v2t"), NAMES.items()):
        assert port[way][ours] == pytest.approx(float(held[f"multi.{way}.{theirs}"]), rel=1e-5)


def test_a_gallery_of_tied_clips_does_not_give_every_caption_the_best_place() -> None:
    """Two captions a clip, all clips the same: a sort puts every clip at a place of its own."""
    owners = np.repeat(np.arange(10), 2)
    found = retrieval_metrics(np.zeros((20, 10)), owners, "authors")["t2v"]
    assert found.r1 == pytest.approx(10)
    assert found.mean_rank == pytest.approx(5.5)


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
