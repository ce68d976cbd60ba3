"""``c4c.toml`` says where datasets lie; what it says wrong is a line."""

from pathlib import Path

import pytest

from c4c.core.config import dataset_source, load_config
from c4c.core.errors import C4CError
from c4c.retrieval.queries import read_queries


def place(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "c4c.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(folder)
    getattr(load_config, "cache_clear", lambda: None)()


def test_a_place_is_taken_with_its_home_spelled_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '\ufeff[datasets.lsmdc]\nroot = "~/lsmdc"\nvideos = "~nobody-such/x"\n'
    place(tmp_path, text, monkeypatch)
    found = dataset_source("lsmdc")
    assert found.root == Path.home() / "lsmdc"
    assert found.video_root == Path("~nobody-such/x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("datasets = 3", "datasets is 3, expected an object"),
        ("[datasets]\nlsmdc = 3", "lsmdc is 3, expected an object"),
        ("[datasets.lsmdc]\nroot = 3", "lsmdc.root is 3, expected a text or null"),
        ("[datasets.lsmdc]\nroots = 'a'", "unknown key 'roots'; known are root, videos"),
        ("[datasets.lsmdc]\nroot = 'a\\u0000'", "is not TOML|holds a NUL"),
        ('[datasets.lsmdc]\nroot = "a\\u0000"', "root holds a NUL character"),
        ("[datasets.lsmdc]\nroot = 1979-05-27", "root is date, expected"),
    ],
)
def test_a_place_that_is_none_is_a_line(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path, text, monkeypatch)
    if "\\u0000'" in text:  # TOML's literal texts have no escapes: this is a plain name
        assert dataset_source("lsmdc").root == Path("a\\u0000")
        return
    with pytest.raises(C4CError, match=words) as caught:
        dataset_source("lsmdc")
    assert "c4c.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_queries_keep_what_is_no_line_end(tmp_path: Path) -> None:
    """U+2028 ends no line of JSON, and one of three readers in Python thinks it does."""
    path = tmp_path / "queries.jsonl"
    path.write_text('{"query": "a\u2028b"}\r\nplain\n\n{"query": " c ", "more": 1}', "utf-8")
    assert list(read_queries(str(path))) == ["a\u2028b", "plain", "c"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"query": 3}', "query is 3, expected a text"),
        ('{"query": null}', "query is null"),
        ('{"query": " "}', "its query is empty"),
        ('{"query": "\\ud800"}', "half a character"),
        ('{"query": "a", "query": "b"}', "duplicate key 'query'"),
        ('{"text": "a"}', "has no 'query'"),
        ('{"query": NaN}', "holds NaN"),
        ("{", "is not JSON"),
        ('{"query": ' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_asks_for_nothing_is_named(line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "queries.jsonl"
    path.write_text(f"fine\n{line}\n")
    with pytest.raises(C4CError, match="queries.jsonl line 2") as caught:
        list(read_queries(str(path)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
