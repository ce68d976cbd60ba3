"""Figures of a study by their definitions, from made-up ranks that are different everywhere."""

import math
from typing import Any

import numpy as np
import pytest

from c4c.retrieval.statistics import holm, interval
from c4c.study.paper import published
from c4c.study.report import rows_of, verdicts
from c4c.study.spec import load_study, make_study
from c4c.study.summary import summarise_runs

HEADS = load_study("heads")
COUNT = 40
PAIRS = [f"v{place // 2 * 2:02}" for place in range(COUNT)]  # clips 2i and 2i + 1 are twins


def run(
    variant: dict[str, Any],
    seed: int,
    ranks: np.ndarray,
    back: np.ndarray | None = None,
    wins: np.ndarray | None = None,
    order: Any = None,
    dataset: str = "shapes",
) -> dict[str, Any]:
    """A run's result: rank of caption i, rank of clip i, whether its clip outranks its twin."""
    places = list(range(len(ranks)) if order is None else order)
    rows: list[dict[str, Any]] = [
        {"caption": f"c{i:02}", "clip": f"v{i:02}", "text": "t", "rank": float(ranks[i]), "ties": 1}
        for i in places
    ]
    if wins is not None:
        for row, i in zip(rows, places, strict=True):
            row |= {"twin": f"v{i ^ 1:02}", "before_twin": float(wins[i])}
    back = ranks if back is None else back
    queries = [{"clip": f"v{i:02}", "rank": float(back[i]), "ties": 1} for i in places]
    there = {"gallery": len(places), "gallery_expected": len(places) + seed}
    return {
        "dataset": dataset, "variant": variant, "seed": seed, "mode": "cached",
        "evaluation": {
            "schema": 1, "head": "h", "queries": {"t2v": rows, "v2t": queries},
            "metrics": {"t2v": there}, "notes": [f"note {seed}", "both"],
        },
    }  # fmt: skip


def drawn(seed: int, most: int = 14) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, most, COUNT)


def coins(seed: int, share: float) -> np.ndarray:
    return (np.random.default_rng(seed).random(COUNT) < share).astype(float)


A, B, C = ({"head": name} for name in ("meanP", "seqLSTM", "seqTransf"))


def test_a_figure_is_the_mean_over_seeds_of_each_query() -> None:
    ranks, back = [drawn(0), drawn(1)], [drawn(2), drawn(3)]
    runs = [run(A, seed, ranks[seed], back[seed], coins(seed, 0.6)) for seed in (0, 1)]
    (found,) = summarise_runs(HEADS, runs)
    for name, values in (
        ("t2v_r1", [100 * (one <= 1) for one in ranks]),
        ("t2v_r5", [100 * (one <= 5) for one in ranks]),
        ("t2v_r10", [100 * (one <= 10) for one in ranks]),
        ("t2v_mean_rank", ranks),
        ("v2t_r1", [100 * (one <= 1) for one in back]),
        ("twins", [100 * coins(seed, 0.6) for seed in (0, 1)]),
    ):
        figure = found.figures[name]
        # A query is what is drawn; a clip's own direction has no twins in its rows.
        clusters = [f"v{i:02}" for i in range(COUNT)] if name == "v2t_r1" else PAIRS
        assert figure.interval == interval(np.mean(values, 0, dtype=float), clusters)
        means = [float(np.mean(one)) for one in values]
        assert figure.deviation == pytest.approx(abs(means[0] - means[1]) / math.sqrt(2))
        assert figure.change is None
    assert (found.seeds, found.gallery) == (2, (COUNT, COUNT))
    assert found.notes == ("note 0", "both", "note 1")
    (single,) = summarise_runs(HEADS, runs[:1])
    assert math.isnan(single.figures["t2v_r1"].deviation)


def test_variants_are_paired_by_query_and_not_by_place() -> None:
    base, other = drawn(0), drawn(1)
    shuffled = np.random.default_rng(5).permutation(COUNT)
    runs = [run(A, 0, base), run(B, 0, other, order=shuffled)]
    _, found = summarise_runs(HEADS, runs)
    clusters = [f"v{i:02}" for i in shuffled]
    expected = interval((other - base).astype(float)[shuffled], clusters)
    assert found.figures["t2v_mean_rank"].change == expected
    assert expected != interval((other[shuffled] - base).astype(float), clusters)  # by place


def test_a_change_is_of_the_queries_that_both_hold() -> None:
    base, other = drawn(0), drawn(1)
    few = list(range(5, 30))
    runs = [run(A, 0, base, order=few), run(B, 0, other)]
    _, found = summarise_runs(HEADS, runs)
    clusters = [f"v{i:02}" for i in few]
    expected = interval((other - base).astype(float)[few], clusters)
    assert found.figures["t2v_mean_rank"].change == expected
    _, apart = summarise_runs(HEADS, [run(A, 0, base, order=range(9)),
                                      run(B, 0, other, order=range(9, 20))])  # fmt: skip
    assert apart.figures["t2v_r1"].change is None


def test_a_change_is_of_the_seeds_that_both_hold() -> None:
    """Else a study that was stopped would compare different draws."""
    ranks = [drawn(seed) for seed in range(5)]
    runs = [run(A, 1, ranks[1]), run(A, 2, ranks[2])]
    runs += [run(B, 0, ranks[0]), run(B, 1, ranks[3]), run(B, 2, ranks[4])]
    _, found = summarise_runs(HEADS, runs)
    expected = (ranks[3] + ranks[4] - ranks[1] - ranks[2]) / 2
    assert found.figures["t2v_mean_rank"].change == interval(expected)
    _, apart = summarise_runs(HEADS, [run(A, 0, ranks[0]), run(B, 1, ranks[1])])
    assert apart.figures["t2v_r1"].change is None


def test_changes_and_orders_are_corrected_for_the_number_of_variants() -> None:
    wins = [coins(seed, share) for seed, share in ((0, 0.5), (1, 0.7), (2, 0.68))]
    ranks = [drawn(0), np.maximum(1, drawn(0) - coins(8, 0.15)), drawn(4)]
    runs = [run(v, 0, ranks[i], wins=wins[i]) for i, v in enumerate((A, B, C))]
    found = summarise_runs(HEADS, runs)
    orders = [interval(100 * one - 50, PAIRS) for one in wins]
    corrected = holm([one.p for one in orders])
    assert [one.order.p for one in found] == corrected  # type: ignore[union-attr]
    assert corrected[1] > orders[1].p
    assert [one.order.value for one in found] == [one.value for one in orders]  # type: ignore[union-attr]
    changes = [interval((one - ranks[0]).astype(float), PAIRS) for one in ranks[1:]]
    told = [one.figures["t2v_mean_rank"].change for one in found]
    assert told[0] is None
    assert [one.p for one in told[1:] if one] == holm([one.p for one in changes])
    assert [one.p for one in told[1:] if one] != [one.p for one in changes]
    # Another dataset is another question.
    more = [run(B, 0, drawn(6), wins=wins[1], dataset="folder")]
    assert summarise_runs(HEADS, [*runs, *more])[:3] == found
    (alone,) = summarise_runs(HEADS, more)
    assert alone.order is not None
    assert alone.order.p == orders[1].p


def test_without_twins_nothing_is_said_of_order() -> None:
    (found,) = summarise_runs(HEADS, [run(A, 0, drawn(0))])
    assert found.order is None
    assert not found.sees_order
    assert "twins" not in found.figures
    assert verdicts(HEADS, [found]) == []


def test_what_differs_from_the_baseline_is_said_no_stronger_than_it_is() -> None:
    base = np.full(COUNT, 2)
    better, worse = np.ones(COUNT, int), np.full(COUNT, 3)
    little = np.where(np.arange(COUNT) < 2, 1, base)
    for ranks, words in (
        (better, "shapes: seqLSTM is better than meanP in R@1: +100.0 points [+100.0, +100.0]"),
        (little, "shapes: seqLSTM does not differ clearly from meanP in R@1: +5.0 points"),
    ):
        said = verdicts(HEADS, summarise_runs(HEADS, [run(A, 0, base), run(B, 0, ranks)]))
        assert said[0].startswith(words)
    said = verdicts(HEADS, summarise_runs(HEADS, [run(A, 0, better), run(B, 0, worse)]))
    assert "seqLSTM is worse than meanP in R@1: -100.0 points" in said[0]
    assert said[0].endswith("p = 0.0001.")


def test_a_table_shows_intervals_deviations_and_lost_clips() -> None:
    runs = [run(A, seed, drawn(0)) for seed in (0, 1)] + [run(B, 1, drawn(1))]
    head, first, second = rows_of(summarise_runs(HEADS, runs))
    assert head[:4] == ["dataset", "variant", "seeds", "R@1"]
    assert (first[1:3], first[-1]) == (["meanP", "2"], "40")
    assert (second[1:3], second[-1]) == (["seqLSTM", "1"], "40 of 41")
    share = 100 * float((drawn(0) <= 1).mean())
    assert first[3].startswith(f"{share:.1f} ± 0.0 [")
    assert "±" not in second[3]


def test_published_figures_are_those_of_the_same_variant() -> None:
    runs = [run(v, 0, drawn(0), dataset="lsmdc") for v in (A, B)]
    lines = published(HEADS, summarise_runs(HEADS, runs))
    assert [line.method for line in lines] == ["seqLSTM (LSMDC)"]
    mine = make_study("mine", {"grid": {"head": ["seqLSTM"]}})
    assert published(mine, summarise_runs(mine, runs[1:])) == []
    assert published(HEADS, summarise_runs(HEADS, [run(B, 0, drawn(0))])) == []
