"""Captions that users write or download: a table with a row a caption (CSV, JSON lines, parquet).

``folder`` and ``manifest`` read them. Columns go by the names that data sets on the Hugging
Face hub use; what is wrong stops with file and line, because here the user can mend it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.extract.datasets.parquet import Embedded
from c4c.extract.datasets.shared import Collector, check_id, span_id
from c4c.extract.datasets.tables import clean, read_table
from c4c.extract.datasets.videos import Videos

VIDEO = ("video", "clip", "video_path", "file_name", "path", "video_id", "videoid")
CAPTION = ("caption", "captions", "text", "sentence", "sentences", "description")
START = ("start", "start_time")
END = ("end", "end_time")
_HERE = re.compile(r"^(\.[/\\]+)+")  # "./a.mp4" is "a.mp4"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a captions file; ``where`` names it in messages."""

    where: str
    video: str
    captions: tuple[str, ...]
    start: float
    end: float | None
    split: str
    id: str
    embedded: bool = False  # the table itself holds the video


def read_rows(
    path: Path, root: Path, folder: str = "", split: str = "", own_ids: bool = True
) -> Iterator[Row]:
    """Rows of a captions file, checked.

    Args:
        path: CSV, TSV, JSON lines, a JSON list or parquet.
        root: folder of the videos; absolute names must lie in it, and become relative.
        folder: what its video names are below, when not the root.
        split: the split of rows that name none.
        own_ids: a column ``id`` names clips (elsewhere it often counts rows).

    Raises:
        C4CError: a row is wrong; the message names file, line and column.
    """
    inside = os.path.abspath(root) + "/"
    for where, values in read_table(path):
        _check_columns(values, where)
        video = _first(values, VIDEO, where)
        video = _HERE.sub("", video)
        if video.startswith(inside):
            video = video.removeprefix(inside)
        elif video and folder:
            video = f"{folder}/{video}"
        own = _text(values.get("id"), "id", where) if own_ids else ""
        yield Row(
            where,
            check_id(video, where),
            _captions(values, where),
            _seconds(values, START, where) or 0.0,
            _seconds(values, END, where),
            _first(values, ("split",), where) or split,
            check_id(own, where) if own else "",
            any(isinstance(values.get(name), Embedded) for name in VIDEO),
        )


def _check_columns(values: dict[str, Any], where: str) -> None:
    if not (set(CAPTION) & set(values) and set(VIDEO) & set(values)):
        raise C4CError(
            f"{where} needs the columns caption and clip (or {', '.join(VIDEO[:-1])}; "
            f"{', '.join(CAPTION[1:])}); it has {', '.join(values) or 'nothing'}."
        )


def _first(values: dict[str, Any], names: tuple[str, ...], where: str) -> str:
    """The text of the first of ``names`` that is there and not empty."""
    texts = (_text(values.get(name), name, where) for name in names)
    return next((text for text in texts if text), "")


def _text(value: Any, name: str, where: str) -> str:
    """A value as text; numbers are read as written, anything else is a mistake."""
    if value is None or value != value:  # NaN is how some tables say that there is none
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise C4CError(f"{where}: {name} is {type(value).__name__}, expected a text.")
    clean(str(value), f"{where}: {name}")
    return str(value).strip()


def _captions(values: dict[str, Any], where: str) -> tuple[str, ...]:
    """The captions of a row: a text, or a list of texts."""
    name = next(name for name in CAPTION if name in values)
    value = values[name]
    texts = value if isinstance(value, list) else [value]
    found = tuple(_text(text, name, where) for text in texts)
    if not all(found) or not found:
        raise C4CError(f"{where} has no caption (or an empty one); give every row one.")
    return found


def _seconds(values: dict[str, Any], names: tuple[str, ...], where: str) -> float | None:
    name = next((name for name in names if values.get(name) not in (None, "")), None)
    if name is None:
        return None
    value = values[name]
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise C4CError(f"{where}: {name} is '{str(value)[:40]}', expected seconds.")
    return found


def splits_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Every split that rows name, in order of appearance; ``all`` when they name none."""
    return tuple(dict.fromkeys(row.split for row in rows if row.split)) or ("all",)


def load_rows(
    source: DatasetSource, split: str, rows: Sequence[Row], videos: Videos, where: str
) -> Dataset:
    """The clips and captions of the rows of ``split``; ``all`` takes every row.

    A video may hold several clips, by ``start`` and ``end``, or by ``id``.

    Raises:
        C4CError: no row is of that split, or a row is impossible.
    """
    chosen = [row for row in rows if split in ("all", row.split)]
    if not chosen:
        known = ", ".join(splits_of(rows))
        raise C4CError(f"{where} has no row of split '{split}'. Its splits: {known}.")
    found = Collector(source, split, videos)
    for row in chosen:
        whole = row.end is None and not row.start
        named, video = row.video, videos.find(row.video)
        if video is None and "\\" in named:  # as Windows writes paths
            named = named.replace("\\", "/")
            video = videos.find(named)
        name = row.id or (named if whole else span_id(named, row.start, row.end))
        if video is None and row.embedded:
            raise C4CError(
                f"{row.where}: the video '{row.video}' lies in the table itself, and c4c decodes "
                "files; write them: c4c dataset unpack TABLE --out FOLDER, then pass --videos "
                "FOLDER."
            )
        for text in row.captions:
            found.add(name, text, row.where, video, row.start, row.end)
    return found.dataset()
