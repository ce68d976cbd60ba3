"""Any number of queries: read, encoded and answered a batch at a time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from c4c.cli.app import COMMANDS
from c4c.core.errors import C4CError
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract
from c4c.retrieval.queries import read_queries
from c4c.retrieval.searcher import Searcher


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("queries")
    make_shapes(here / "shapes", Recipe(seed=5, train=12, val=2, test=2))
    run_extract(
        ExtractConfig(
            dataset="shapes", root=here / "shapes", cache=here / "cache", backbone="tiny", workers=1
        )
    )
    return here / "cache"


def sentences(count: int) -> Iterator[str]:
    colours, shapes = ("red", "blue", "green", "yellow"), ("circle", "square", "star")
    for number in range(count):
        yield f"a {colours[number % 4]} {shapes[number % 3]} moves {number % 7}"


@pytest.mark.parametrize("rerank", ["none", "qbnorm"])
def test_queries_are_asked_for_only_as_they_are_answered(cache: Path, rerank: str) -> None:
    asked = []

    def noted() -> Iterator[str]:
        for sentence in sentences(100_000):
            asked.append(sentence)
            yield sentence

    split = "train" if rerank == "none" else "test"
    answers = Searcher(cache, split=split, rerank=rerank).stream(noted(), 1)
    for number, (hit,) in enumerate(answers):
        assert hit.query == asked[number]
        assert len(asked) <= number + 256
        if number == 1000:
            break


def test_answers_are_those_of_queries_asked_alone(cache: Path) -> None:
    """In the first batch, in later ones (by an index), and in the last, which is not full."""
    searcher = Searcher(cache)
    answers = list(searcher.stream(sentences(600), 3))
    assert len(answers) == 600
    for place in (0, 255, 256, 511, 512, 599):
        own = answers[place]
        alone = searcher(own[0].query, 3)
        assert [hit.rank for hit in own] == [1, 2, 3]
        assert [hit.score for hit in own] == pytest.approx([hit.score for hit in alone], abs=2e-5)


def test_hits_come_while_queries_are_still_to_come(cache: Path) -> None:
    command = [sys.executable, "-m", "c4c", "retrieve", "--queries", "-", "--cache", str(cache)]
    with subprocess.Popen(
        [*command, "--top-k", "1"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(f"{one}\n" for one in sentences(256)))
        process.stdin.flush()
        first = [json.loads(process.stdout.readline()) for _ in range(256)]
        rest, _ = process.communicate("a red star\n", timeout=60)
    assert [hit["query"] for hit in first] == list(sentences(256))
    assert json.loads(rest)["query"] == "a red star"


def read(path: Path, data: bytes) -> list[str]:
    path.write_bytes(data)
    return list(read_queries(str(path)))


def test_a_line_ends_where_a_file_says_so(tmp_path: Path) -> None:
    """And not at the separators that JSON may hold as they are."""
    path = tmp_path / "queries"
    odd = "one\u2028two\u2029three\x85four\x0bfive"
    line = json.dumps({"query": odd}, ensure_ascii=False).encode()
    assert read(path, line + b"\n" + line) == [odd, odd]
    assert read(path, b"\xef\xbb\xbfa dog\r\n\r\n  \n a cat ") == ["a dog", "a cat"]
    assert read(path, odd.encode()) == [odd]
    assert read(path, b"") == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a dog\n\xff\n", "line 2 is not UTF-8"),
        (b'a dog\n{"query": 3}\n', "line 2: query is 3, expected a text"),
        (b'{"query": "a\n', "line 1 is not JSON"),
        (b"a dog\n" + b"x" * (1 << 21), "line 2 is longer than 1048576 bytes"),
        (b"[" * 100_000 + b"\n{" * 2, "line 2 is not JSON"),
    ],
)
def test_a_line_that_cannot_be_is_named(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(C4CError, match=f"queries {words}") as caught:
        read(tmp_path / "queries", data)
    assert len(str(caught.value)) < 400


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(C4CError, match="Cannot read queries from"):
            list(read_queries(str(path)))
    with pytest.raises(C4CError, match="longer than"):  # and it is not read to its end
        list(read_queries("/dev/zero"))


def test_half_a_character_is_one_line(cache: Path) -> None:
    for query in ("\udcff", "a \ud83d dog"):
        with pytest.raises(C4CError, match="is not UTF-8 text"):
            Searcher(cache)(query)


def test_no_query_at_all_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    command = ["retrieve", "--cache", str(tmp_path / "none"), "--queries", str(tmp_path / "empty")]
    done = CliRunner().invoke(COMMANDS["retrieve"], command[1:])
    assert "There is no query" in str(done.exception)


def test_a_written_file_holds_a_hit_a_line_for_every_reader(cache: Path, tmp_path: Path) -> None:
    query = "a red\u2028circle \x85 süß"
    (tmp_path / "queries").write_text(json.dumps({"query": query}))
    out, args = tmp_path / "hits.jsonl", ["--queries", str(tmp_path / "queries")]
    done = CliRunner().invoke(
        COMMANDS["retrieve"], [*args, "--cache", str(cache), "--out", str(out)]
    )
    assert done.exit_code == 0
    lines = out.read_text().splitlines()  # which breaks lines at U+2028 and U+0085 too
    assert [json.loads(line)["query"] for line in lines] == [query] * 10
