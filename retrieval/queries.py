"""Queries from files: one a line, or JSON lines, read as they are needed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

from c4c.core.errors import C4CError
from c4c.core.files import parse_json
from c4c.core.progress import say
from c4c.core.records import Query
from c4c.core.schema import parse

_LONGEST = 1 << 20  # bytes of a line of queries
HALF = re.compile("[\ud800-\udfff]")  # half a character: a byte that was not UTF-8


@dataclass(frozen=True, slots=True)
class _Asked:
    """A line of JSON that asks for something."""

    query: str
    id: str | int | None = None

    def __post_init__(self) -> None:
        if not self.query.strip() or HALF.search(self.query):
            raise C4CError("its query is empty, or holds half a character.")


def read_queries(path: str) -> Iterator[str]:
    """Sentences from a file (``-`` is standard input): one a line, or JSON lines with ``query``.

    An ``id`` beside a ``query`` is kept: the sentence is a ``Query``.

    Yields:
        Sentence after sentence, as they are read.

    Raises:
        C4CError: the file cannot be read, or a line is neither.
    """
    count = 0
    try:
        for number, line in enumerate(_lines(path), 1):
            if len(line) > _LONGEST:
                raise C4CError(f"{path} line {number} is longer than {_LONGEST} bytes.")
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if text:
                count += 1
                yield _query(text, f"{path} line {number}")
    except OSError as error:
        raise C4CError(f"Cannot read queries from {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise C4CError(f"{path} line {number} is not UTF-8; convert the file.") from None
    say(f"{count} queries")


def _lines(path: str) -> Iterator[bytes]:
    """Lines as they come, none of them read much further than is allowed."""
    if path == "-" and sys.stdin is None:
        raise C4CError("--queries -: standard input is closed.")
    with nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb") as stream:
        yield from iter(lambda: stream.readline(_LONGEST + 1), b"")


def _query(line: str, where: str) -> str:
    if not line.startswith("{"):
        return line
    value = parse_json(line, where)
    asked = parse(_Asked, value, where, remedy="correct that line")
    return Query(asked.query.strip(), asked.id)
