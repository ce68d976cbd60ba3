"""``manifest``: videos and captions as data sets on the Hugging Face hub list them, in tables.

CSV, JSON lines or parquet: one file (``--captions``), or the files of a data set's folder:
``metadata.*`` beside the videos, at the top or in a folder a split, or one table a split
(``train.csv``, or ``data/train-00000-of-00004.parquet`` and its like).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from c4c.config import DatasetSource
from c4c.errors import C4CError
from c4c.extract.datasets.rows import Row, load_rows, read_rows, splits_of
from c4c.extract.datasets.shared import Counts
from c4c.extract.datasets.tables import TABLES
from c4c.extract.datasets.videos import Videos
from c4c.records import Dataset

SPLITS = ("all",)
EXPECTED: dict[str, Counts] = {}
_SPLIT_FILE = re.compile(
    r"(train|val|valid|validation|dev|test)([-_.][0-9]+)?(-of-[0-9]+)?", re.IGNORECASE
)


def splits(source: DatasetSource) -> tuple[str, ...]:
    """The splits that columns, files or folders name; ``all`` when none does."""
    return splits_of(list(_rows(source)))


def load(source: DatasetSource, split: str) -> Dataset:
    """One split; ``all`` takes every row.

    Raises:
        C4CError: there is no table, or one has a wrong row.
    """
    rows = list(_rows(source))
    where = source.captions or source.root
    return load_rows(source, split, rows, Videos(source), str(where))


def _rows(source: DatasetSource) -> Iterator[Row]:
    if source.captions is not None:
        yield from read_rows(source.captions, own_ids=False)
        return
    tables = sorted(_tables(source.root))
    _refuse_twice([path for path, _, _ in tables])
    if not tables:
        raise C4CError(
            f"manifest: there is no table in {source.root} (from {source.looked}), such as "
            "metadata.csv, train.jsonl or data/train-00000-of-00001.parquet; pass --captions FILE."
        )
    for path, folder, split in tables:
        yield from read_rows(path, folder, split, own_ids=False)


def _refuse_twice(paths: list[Path]) -> None:
    """One table in two formats would give every caption twice."""
    seen: dict[Path, Path] = {}
    for path in paths:
        other = seen.setdefault(path.with_suffix(""), path)
        if other != path:
            raise C4CError(f"manifest: {other} and {path.name} seem to be one table; keep one.")


def _tables(root: Path) -> Iterator[tuple[Path, str, str]]:
    """(file, folder that its videos are named below, split) of each table of a data set."""
    for path in [*root.glob("*"), *root.glob("*/*")]:
        if path.suffix.lower() not in TABLES or not path.is_file():
            continue
        folder = path.parent.relative_to(root).as_posix()
        named = _SPLIT_FILE.fullmatch(path.stem)
        if path.stem == "metadata":
            yield path, "" if folder == "." else folder, "" if folder == "." else folder
        elif named:
            yield path, "", named.group(1).lower()
