"""Comparisons: hand-made wins and losses, honest intervals, errors."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from c4c.commands.compare import command
from c4c.errors import C4CError
from c4c.retrieval.compare import Results, compare, paired_interval, read_results


def results(ranks: dict[str, float]) -> Results:
    return Results(Path("r.json"), "meanP", ranks, {key: f"text {key}" for key in ranks})


def test_wins_and_losses_come_largest_first() -> None:
    found = compare(
        results({"a": 1, "b": 9, "c": 4, "d": 2}), results({"a": 3, "b": 2, "c": 3, "e": 1})
    )
    assert found.won == (("text b", 9, 2), ("text c", 4, 3))
    assert found.lost == (("text a", 1, 3),)
    assert (found.queries, found.only_a, found.only_b) == (3, 1, 1)
    assert found.differences["R@1"].value == pytest.approx(-100 / 3)
    assert found.differences["mean rank"].value == pytest.approx(-2)


def test_no_difference_is_never_significant() -> None:
    found = paired_interval(np.zeros(50))
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_a_steady_difference_is_significant() -> None:
    found = paired_interval(np.full(50, 2.0))
    assert (found.low, found.high) == (2, 2)
    assert found.p < 0.001


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for seed in range(100):
        found = paired_interval(generator.normal(0.5, 1, 60), seed, draws=400)
        inside += found.low <= 0.5 <= found.high
    assert inside >= 88  # 95 expected; 88 is three deviations below


def test_the_command_reads_two_files(tmp_path: Path) -> None:
    for name, rank in (("a", 3.0), ("b", 1.0)):
        rows = [{"caption": "c", "clip": "v", "text": "a dog", "rank": rank}]
        content = {"schema": 1, "head": name, "queries": {"t2v": rows}}
        (tmp_path / name).write_text(json.dumps(content))
    done = CliRunner().invoke(command, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    assert "3 -> 1  a dog" in done.output
    assert "R@1        +100.00" in done.output


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 1}', '{"schema": 9}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(C4CError):
        read_results(tmp_path / "r.json")
    with pytest.raises(C4CError, match="share no query"):
        compare(results({"a": 1}), results({"b": 1}))
