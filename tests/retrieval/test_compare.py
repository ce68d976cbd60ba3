"""Comparisons: hand-made wins and losses, honest intervals, errors."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from c4c.cli.commands.compare import command
from c4c.core.errors import C4CError
from c4c.retrieval.compare import Change, Query, Results, as_dict, compare, read_results
from c4c.retrieval.compare_page import compare_page
from c4c.retrieval.statistics import interval


def results(ranks: dict[str, float]) -> Results:
    found = {key: Query(f"text {key}", f"clip {key}", rank) for key, rank in ranks.items()}
    return Results(Path("r.json"), "meanP", found)


def told(rows: tuple[Change, ...]) -> list[tuple[str, float, float]]:
    return [(row.before.text, row.before.rank, row.after.rank) for row in rows]


def test_wins_and_losses_come_largest_first() -> None:
    found = compare(
        results({"a": 1, "b": 9, "c": 4, "d": 2}),
        results({"a": 3, "b": 2, "c": 3, "e": 1}),
        seed=0,
    )
    assert told(found.won) == [("text b", 9, 2), ("text c", 4, 3)]
    assert told(found.lost) == [("text a", 1, 3)]
    assert (found.queries, found.only_a, found.only_b) == (3, 1, 1)
    assert found.differences["R@1"].value == pytest.approx(-100 / 3)
    assert found.differences["mean rank"].value == pytest.approx(-2)


def test_the_command_reads_two_files(tmp_path: Path) -> None:
    for name, rank in (("a", 3.0), ("b", 1.0)):
        rows = [{"caption": "c", "clip": "v", "text": "a dog", "rank": rank, "ties": 1}]
        content = {"schema": 1, "head": name, "queries": {"t2v": rows}}
        (tmp_path / name).write_text(json.dumps(content))
    done = CliRunner().invoke(command, [str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    assert "3 -> 1  a dog" in done.output
    assert "+100.00  [+100.00, +100.00]" in done.output


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 1}', '{"schema": 9}'])
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(C4CError):
        read_results(tmp_path / "r.json")
    with pytest.raises(C4CError, match="share no query"):
        compare(results({"a": 1}), results({"b": 1}), 0)


def test_queries_of_twins_stand_or_fall_together(tmp_path: Path) -> None:
    """The intervals are those of pairs of twins, whatever order the files hold queries in."""
    generator = np.random.default_rng(0)
    ranks = generator.integers(1, 9, (2, 40)).astype(float)
    ranks[1, ::2] = ranks[1, 1::2]  # a pair of twins changes alike
    for name, own, order in (("a", ranks[0], range(40)), ("b", ranks[1], reversed(range(40)))):
        rows = [
            {
                "caption": f"c{i}", "clip": f"v{i:02}", "twin": f"v{i ^ 1:02}", "text": "t",
                "rank": own[i], "ties": 1, "before_twin": float(own[i] < 5),
            }
            for i in order
        ]  # fmt: skip
        content = {"schema": 1, "head": name, "queries": {"t2v": rows}}
        (tmp_path / name).write_text(json.dumps(content))
    found = compare(read_results(tmp_path / "a"), read_results(tmp_path / "b"), 0)
    pairs = [f"{i // 2:02}" for i in range(40)]
    gain = ranks[1] - ranks[0]
    assert found.differences["mean rank"] == interval(gain, pairs)
    assert found.differences["mean rank"] != interval(gain)
    within = 100.0 * ((ranks[1] <= 5).astype(float) - (ranks[0] <= 5))
    assert found.differences["R@5"] == interval(within, pairs)
    won = 100.0 * ((ranks[1] < 5).astype(float) - (ranks[0] < 5))
    assert found.differences["twins"] == interval(won, pairs)


def test_the_other_direction_is_read_from_its_own_rows(tmp_path: Path) -> None:
    rows = [{"clip": f"v{i}", "rank": i + 1.5, "ties": 2} for i in range(3)]
    content = {"schema": 1, "head": "h", "queries": {"t2v": [], "v2t": rows}}
    (tmp_path / "r").write_text(json.dumps(content))
    found = read_results(tmp_path / "r", "v2t")
    assert list(found.queries) == ["v0", "v1", "v2"]
    assert found.ranks(["v2", "v0"]).ahead.tolist() == [2, 0]
    assert found.ranks(["v2", "v0"]).expected().tolist() == [3.5, 1.5]


def results_file(path: Path, **changes: object) -> Path:
    row = {"caption": "c", "clip": "v", "text": "a dog", "rank": 1.0, "ties": 1, **changes}
    content = {"schema": 1, "head": "h", "queries": {"t2v": [row]}, "videos": {"v": ["p", 0, 1]}}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rank": None}, "queries.t2v[0].rank is null, expected a number"),
        ({"rank": float("inf")}, "holds Infinity"),
        ({"rank": 1e300}, "rank is 1e+300, expected a number from 1 to"),
        ({"rank": 0.5}, "rank is 0.5"),
        ({"ties": 0}, "ties is 0"),
        ({"ties": 1.5}, "ties is 1.5, expected a whole number"),
        ({"rank": 2, "ties": 9}, "rank 2 is better than 9 tied answers can be"),
        ({"before_twin": 7}, "before_twin is 7, expected a number from 0 to 1"),
        ({"first": 3}, "first is 3, expected a text"),
        ({"caption": None}, "queries.t2v[0] has no 'caption'"),
    ],
)
def test_a_row_that_cannot_be_is_named(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    read_results(results_file(tmp_path / "r.json"))
    with pytest.raises(C4CError, match=r"r\.json") as caught:
        read_results(results_file(tmp_path / "r.json", **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_query_that_is_there_twice_is_named(tmp_path: Path) -> None:
    path = results_file(tmp_path / "r.json")
    content = json.loads(path.read_text())
    content["queries"]["t2v"] *= 2
    path.write_text(json.dumps(content))
    with pytest.raises(C4CError, match=r"queries.t2v\[1\] is another query of 'c'"):
        read_results(path)
    with pytest.raises(C4CError, match="has no queries of 'v2t'"):
        read_results(path, "v2t")


def test_ties_count_as_the_chance_to_be_within_k() -> None:
    tied = {"q": Query("text", "clip", 2.5, ties=4)}  # first of four in a quarter of the orders
    sure = {"q": Query("text", "clip", 1.0)}
    found = compare(Results(Path("a"), "h", tied), Results(Path("b"), "h", sure), 0)
    assert found.differences["R@1"].value == 75
    assert found.differences["R@5"].value == 0


def test_the_page_quotes_the_query_and_not_what_became_of_it() -> None:
    a, b = results({"a": 9}), results({"a": 2})
    page = compare_page(a, b, compare(a, b, 0), show=1)
    assert "“text a”: rank 9 to 2" in page


def test_notes_of_both_files_are_kept() -> None:
    a, b = results({"a": 9}), results({"a": 2})
    a, b = replace(a, notes=("not <comparable>",)), replace(b, notes=("leak",))
    found = compare(a, b, 0)
    assert found.notes == ("A: not <comparable>", "B: leak")
    assert as_dict(found)["notes"] == list(found.notes)
    assert "note: A: not &lt;comparable&gt;" in compare_page(a, b, found, show=1)
