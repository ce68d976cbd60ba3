"""Annotation files as plain values: text, JSON, tables; what is wrong is a line with its place.

Nothing here knows a benchmark. Every reader names the file, the line where there is one, and
what to do; a file that is damaged is never read half.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from c4c.errors import C4CError

T = TypeVar("T")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_WORDS: dict[type, str] = {list: "a list", dict: "an object", str: "a text"}
_HALF = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        C4CError: missing or unreadable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise C4CError(f"{path} is not there.") from None
    except OSError as error:
        raise C4CError(f"Cannot read {path}: {error.strerror}.") from None


def read_text(path: Path) -> str:
    """A text file as UTF-8, with or without a byte-order mark.

    Raises:
        C4CError: missing, unreadable, not UTF-8, or with NUL bytes.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise C4CError(f"{path} line {line} is not UTF-8; convert the file to UTF-8.") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise C4CError(f"{path} line {line} holds a NUL character; is the file damaged?")
    return text


def read_json(path: Path, allow_nan: bool = False) -> Any:
    """A JSON file, strictly: no key twice in one object, no NaN (unless allowed).

    Raises:
        C4CError: the file is not that, cut short, or nested too deeply.
    """
    return parse_json(read_text(path), str(path), allow_nan)


def parse_json(text: str, where: str, allow_nan: bool = False) -> Any:
    """JSON text, as ``read_json`` reads it; ``where`` names it in messages.

    Raises:
        C4CError: see ``read_json``.
    """
    constant = float if allow_nan else _refuse_constant
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=constant)
    except RecursionError:
        raise C4CError(f"{where} is not JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise C4CError(f"{where} is not JSON: {error}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key '{twice}' stands twice in one object; keep one")
    return found


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number")


def must(value: Any, kind: type[T], where: str) -> T:
    """``value`` when it is of ``kind``.

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
        raise C4CError(f"{where} holds half a character (a lone surrogate); mend it.")
    return " ".join(_CONTROL.sub(" ", text).split())


def read_lines(path: Path) -> Iterator[tuple[str, str]]:
    """(where, line) of each line of a text file that is not blank, less its line end."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            yield f"{path} line {number}", line.rstrip("\r")


def read_table(path: Path, needed: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, values by column name in lower case) of each row of a table.

    By suffix: JSON lines, JSON (a list of objects), parquet, else CSV with a header line
    (separated by tabs or semicolons when that line has such and no comma).

    Args:
        path: the file.
        needed: columns that must be there.

    Raises:
        C4CError: a line is wrong, a column is missing or doubled, or there is no row.
    """
    from c4c.extract.datasets.parquet import parquet_rows

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


def lower_names(names: list[str], where: str) -> list[str]:
    """Column names as they are looked up.

    Raises:
        C4CError: two are the same.
    """
    found = [name.strip().lower() for name in names]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise C4CError(f"{where} has the column {twice[0] or 'without name'} twice; keep one.")
    return found


def _csv_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    text = read_text(path)
    head = text.lstrip("\r\n").split("\n", 1)[0]
    separator = next((one for one in ",\t;" if one in head), ",")
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
    for number, values in enumerate(must(parse_json(text, str(path)), list, str(path)), 1):
        where = f"{path} row {number}"
        names = lower_names(list(must(values, dict, where)), where)
        yield where, dict(zip(names, values.values(), strict=True))
