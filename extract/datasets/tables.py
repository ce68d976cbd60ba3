"""Annotation files as plain values: text, JSON, tables; what is wrong is a line with its place.

Nothing here knows a benchmark. Every reader names the file, the line where there is one, and
what to do; a file that is damaged is never read half.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from c4c.core.errors import C4CError
from c4c.core.files import parse_json, read_bytes, read_json, read_text
from c4c.core.schema import parse
from c4c.extract.datasets.parquet import lower_names, parquet_rows

__all__ = ["clean", "must", "read_bytes", "read_json", "read_lines", "read_table", "TABLES"]

T = TypeVar("T")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_HALF = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


_WORDS: dict[type, str] = {list: "a list", dict: "an object", str: "a text"}


def must(value: Any, kind: type[T], where: str) -> T:
    """``value`` when it is of ``kind``; whole records are checked by ``c4c.core.schema``.

    Raises:
        C4CError: it is something else; ``where`` says which value of which file.
    """
    if not isinstance(value, kind):
        got = type(value).__name__ if value is not None else "not there"
        raise C4CError(f"{where} is {got}, expected {_WORDS[kind]}.")
    return value


def clean(value: Any, where: str) -> str:
    """A text on one line: control characters are spaces, runs of white space one space.

    Raises:
        C4CError: not a text, or with half a character in it.
    """
    text = must(value, str, where)
    if _HALF.search(text):
        raise C4CError(f"{where} holds half a character (a lone surrogate); correct it.")
    return " ".join(_CONTROL.sub(" ", text).split())


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """(where, line) of each line of a text file that is not blank, less its line end."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield f"{path} line {number}", line.rstrip("\r")


def read_table(path: Path, needed: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, values by column name in lower case) of each row of a table.

    By suffix: JSON lines, JSON (a list of objects), parquet, else CSV with a header line
    (separated by commas, tabs or semicolons, whichever that line has most of).

    Args:
        path: the file.
        needed: columns that must be there.

    Raises:
        C4CError: a line is wrong, a column is missing or doubled, or there is no row.
    """
    suffix = path.suffix.lower()
    readers = {".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": parquet_rows}
    readers[".json"] = _json_rows
    rows = readers.get(suffix, _csv_lines)(path)
    empty = True
    for where, values in rows:
        empty = False
        for name in needed:
            if name not in values:
                raise C4CError(f"{where} has no column {name}; it has {', '.join(values)}.")
        yield where, values
    if empty:
        raise C4CError(f"{path} has no rows (a header line at most); is the file whole?")


def _csv_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    text = read_text(path)
    head = text.lstrip("\r\n").split("\n", 1)[0]
    separator = max(",\t;", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        reader.fieldnames = names = lower_names(list(reader.fieldnames or ()), str(path))
        for values in reader:
            where = f"{path} line {reader.line_num}"
            if None in values or None in values.values():
                raise C4CError(
                    f"{where}: not {len(names)} columns as in the first line; put texts with "
                    "commas in quotes."
                )
            yield where, values
    except csv.Error as error:
        raise C4CError(f"{path} line {reader.line_num} is not CSV: {error}.") from None


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, line in read_lines(path):
        values = parse_json(line, where)
        if not isinstance(values, dict):
            raise C4CError(f"{where} is not a JSON object of columns.")
        yield where, dict(zip(lower_names(list(values), where), values.values(), strict=True))


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A list of objects, or JSON lines under the name ``.json``."""
    text = read_text(path).lstrip()
    if not text.startswith("["):
        yield from _json_lines(path)
        return
    for number, values in enumerate(parse(list[object], parse_json(text, str(path)), str(path)), 1):
        where = f"{path} row {number}"
        row = parse(dict[str, object], values, where)
        yield where, dict(zip(lower_names(list(row), where), row.values(), strict=True))
