"""``manifest``: videos and captions as data sets on the Hugging Face hub list them, in tables.

CSV, JSON lines or parquet: one file (``--captions``), or the files of a data set's folder:
``metadata.*`` beside the videos, at the top or in a folder a split, or one table a split
(``train.csv``, or ``data/train-00000-of-00004.parquet`` and its like).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.extract.datasets.rows import Row, load_rows, read_rows, splits_of
from c4c.extract.datasets.shared import Counts
from c4c.extract.datasets.tables import TABLES
from c4c.extract.datasets.videos import Videos

SPLITS = ("all",)
EXPECTED: dict[str, Counts] = {}
_SPLIT = re.compile(
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
        yield from read_rows(source.captions, source.video_root, own_ids=False)
        return
    tables = sorted(_tables(source.root))
    _refuse_twice([path for path, _, _ in tables])
    if not tables:
        raise C4CError(
            f"manifest: there is no table in {source.root} (from {source.looked}), such as "
            "metadata.csv, train.jsonl or data/train-00000-of-00001.parquet; pass --captions FILE."
        )
    for path, folder, split in tables:
        yield from read_rows(path, source.video_root, folder, split, own_ids=False)


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
        below = path.parent.relative_to(root)
        named = _SPLIT.fullmatch(path.parent.name if path.stem == "metadata" else path.stem)
        split = named.group(1).lower() if named else ""
        if path.stem == "metadata":
            yield path, *(("", "") if path.parent == root else (below.as_posix(), split))
        elif named:
            yield path, "", split
