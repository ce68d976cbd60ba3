"""Queries from files: one a line, JSON lines, a JSON list, or a table with a header.

Lines are read as they are needed, so there may be any number.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError
from c4c.core.files import parse_json, read_json, read_text
from c4c.core.progress import say
from c4c.core.records import Query
from c4c.core.schema import parse
from c4c.retrieval.asking import Ask

_LONGEST = 1 << 20  # bytes of a line of queries
_LARGEST = 256 << 20  # of a list or a table, which are read whole
_HALF = re.compile("[\ud800-\udfff]")  # a byte that was not UTF-8
_COLUMNS = ("query", "sentence", "caption", "text")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A line of JSON that asks for something."""

    query: str | list[str] = ""
    id: str | int | None = None
    weights: tuple[float, ...] = ()
    avoid: tuple[str, ...] = ()
    like: str | None = None

    def __post_init__(self) -> None:
        if not self.query and not self.like:
            raise C4CError("it has no 'query', and nothing that hits are to be like.")
        words = "".join(self._sentences)
        if _HALF.search(words) or (self.query and not words.strip()):
            raise C4CError("its query is empty, or holds half a character.")

    @property
    def _sentences(self) -> tuple[str, ...]:
        if isinstance(self.query, str):
            return (self.query,) if self.query else ()
        return tuple(self.query)

    def ask(self) -> str | Ask:
        """A plain sentence, or a question of several parts."""
        if isinstance(self.query, str) and self.query and not (self.avoid or self.like):
            return Query(self.query.strip(), self.id)
        sentences = tuple(one.strip() for one in self._sentences)
        return Ask(sentences, self.weights, self.avoid, self.like, self.id)


def read_queries(path: str) -> Iterator[str | Ask]:
    """Questions from a file (``-`` is standard input), in the form that its name tells.

    ``.json`` is a list, ``.csv`` and ``.tsv`` are tables whose header has a column ``query`` (or
    ``sentence``, ``caption``, ``text``) and perhaps ``id``; every other file has one sentence a
    line, or JSON lines with ``query``. An ``id`` beside a ``query`` is kept: the sentence is a
    ``Query``.

    Yields:
        Question after question, as they are read.

    Raises:
        C4CError: the file cannot be read, or a line is neither.
    """
    form = {".json": _of_list, ".csv": _of_table, ".tsv": _of_table}
    count = 0
    for asked in form.get(Path(path).suffix.lower(), _of_lines)(path):
        count += 1
        yield asked
    say(f"{count} queries")


def _of_list(path: str) -> Iterator[str | Ask]:
    rows = read_json(Path(path), _LARGEST)
    if type(rows) is not list:
        raise C4CError(f"{path} is not a list of queries; JSON lines have another name (.jsonl).")
    for number, row in enumerate(rows, 1):
        where = f"{path} query {number}"
        if type(row) is str and row.strip() and not _HALF.search(row):
            yield row.strip()
        else:
            yield _asked(row, where)


def _of_table(path: str) -> Iterator[str | Ask]:
    text = read_text(Path(path), _LARGEST)
    separator = "\t" if path.lower().endswith(".tsv") else ","
    rows = csv.DictReader(text.splitlines(keepends=True), delimiter=separator)
    try:
        names = {(name or "").strip().lower(): name for name in rows.fieldnames or ()}
        column = next((names[name] for name in _COLUMNS if name in names), None)
        if column is None:
            raise C4CError(f"{path} has no column 'query' in its header; name one so.")
        for row in rows:
            sentence = (row[column] or "").strip()
            if not sentence:
                raise C4CError(f"{path} line {rows.line_num} has an empty query; fill it in.")
            yield Query(sentence, row[names["id"]]) if "id" in names else sentence
    except csv.Error as error:
        raise C4CError(f"{path} line {rows.line_num} is not a table: {error}.") from None


def _of_lines(path: str) -> Iterator[str | Ask]:
    try:
        for number, line in enumerate(_lines(path), 1):
            if len(line) > _LONGEST:
                raise C4CError(f"{path} line {number} is longer than {_LONGEST} bytes.")
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                yield _query(text, f"{path} line {number}")
    except OSError as error:
        raise C4CError(f"Cannot read queries from {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise C4CError(f"{path} line {number} is not UTF-8; convert the file.") from None


def _lines(path: str) -> Iterator[bytes]:
    """Lines as they come, none of them read much further than is allowed."""
    if path == "-" and sys.stdin is None:
        raise C4CError("--queries -: standard input is closed.")
    with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as stream:
        yield from iter(lambda: stream.readline(_LONGEST + 1), b"")


def _query(line: str, where: str) -> str | Ask:
    return _asked(parse_json(line, where), where) if line.startswith("{") else line


def _asked(value: Any, where: str) -> str | Ask:
    asked = parse(_Asked, value, where, remedy="correct that line")
    try:
        return asked.ask()
    except C4CError as error:
        raise C4CError(f"{where}: {error}") from None
