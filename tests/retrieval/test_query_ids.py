"""The id of a query in JSON lines comes back with each of its hits."""

import json
from pathlib import Path

import pytest

from c4c.core.errors import C4CError
from c4c.core.records import Query
from c4c.retrieval.queries import read_queries
from c4c.retrieval.search import Hit


def test_ids_are_kept_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"query": " a dog ", "id": "q-1"}\n{"id": 7, "query": "a cat"}\n{"query": "x"}\nplain\n'
    )
    found = list(read_queries(str(path)))
    assert found == ["a dog", "a cat", "x", "plain"]
    assert [getattr(one, "id", None) for one in found] == ["q-1", 7, None, None]


@pytest.mark.parametrize("value", ["true", "1.5", "[1]", '{"a": 1}'])
def test_an_id_that_is_none_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"query": "a"}\n{"query": "b", "id": ' + value + "}\n")
    with pytest.raises(C4CError, match="line 2: id is .*, expected "):
        list(read_queries(str(path)))


@pytest.mark.parametrize("line", ["{}", '{"query": [3]}', '{"query": []}', "{", '{"id": 3}'])
def test_lines_that_ask_nothing_are_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(line)
    with pytest.raises(C4CError, match="line 1"):
        list(read_queries(str(path)))


def test_a_hit_has_its_querys_id() -> None:
    for query, told in ((Query("a dog", "q-1"), {"id": "q-1"}), ("a dog", {}), (Query("a"), {})):
        hit = Hit(query, 1, 0.5, None, "clip", "/clip.mp4", 0.0, None)
        row = json.loads(json.dumps(hit.as_dict()))
        assert {key: row[key] for key in row if key == "id"} == told
        assert row["query"] == query
