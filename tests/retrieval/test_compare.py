"""Comparisons: hand-made wins and losses, honest intervals, errors."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from c4c.commands.compare import command
from c4c.compare import compare_page
from c4c.errors import C4CError
from c4c.retrieval.compare import Change, Query, Results, as_dict, compare, read_results


def results(ranks: dict[str, float]) -> Results:
    found = {key: Query(f"text {key}", f"clip {key}", rank) for key, rank in ranks.items()}
    return Results(Path("r.json"), "meanP", found)


def told(rows: tuple[Change, ...]) -> list[tuple[str, float, float]]:
    return [(row.before.text, row.before.rank, row.after.rank) for row in rows]


def test_wins_and_losses_come_largest_first() -> None:
    found = compare(
        results({"a": 1, "b": 9, "c": 4, "d": 2}), results({"a": 3, "b": 2, "c": 3, "e": 1})
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
        compare(results({"a": 1}), results({"b": 1}))


def test_ties_count_as_the_chance_to_be_within_k() -> None:
    tied = {"q": Query("text", "clip", 2.5, ties=4)}  # first of four in a quarter of the orders
    sure = {"q": Query("text", "clip", 1.0)}
    found = compare(Results(Path("a"), "h", tied), Results(Path("b"), "h", sure))
    assert found.differences["R@1"].value == 75
    assert found.differences["R@5"].value == 0


def test_the_page_quotes_the_query_and_not_what_became_of_it() -> None:
    a, b = results({"a": 9}), results({"a": 2})
    page = compare_page(a, b, compare(a, b), show=1)
    assert "“text a”: rank 9 to 2" in page


def test_notes_of_both_files_are_kept() -> None:
    a, b = results({"a": 9}), results({"a": 2})
    a, b = replace(a, notes=("not <comparable>",)), replace(b, notes=("leak",))
    found = compare(a, b)
    assert found.notes == ("A: not <comparable>", "B: leak")
    assert as_dict(found)["notes"] == list(found.notes)
    assert "note: A: not &lt;comparable&gt;" in compare_page(a, b, found, show=1)
