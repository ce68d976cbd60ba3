"""``folder``: any folder of videos, with or without a captions file (CSV or JSON lines)."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c4c.config import DatasetSource
from c4c.errors import C4CError
from c4c.extract.datasets.shared import (
    Collector,
    Counts,
    by_stem,
    check_id,
    read_text,
    scan_videos,
)
from c4c.records import Clip, Dataset

SPLITS = ("all",)
EXPECTED: dict[str, Counts] = {}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a captions file; ``where`` names it in messages."""

    where: str
    video: str
    caption: str
    start: float
    end: float | None
    split: str
    id: str


def load(source: DatasetSource, split: str) -> Dataset:
    """The videos below the root, and the captions of a captions file.

    Without a captions file the only split is ``all``. With one, the clips are those that it
    names (a video may hold several, by ``start`` and ``end``), and a split is a value of its
    ``split`` column; ``all`` takes every row. Videos are named by file name, by stem, or by
    path below the root.

    Raises:
        C4CError: no folder, no video, or a captions file with a wrong line.
    """
    videos = scan_videos(source.video_root)
    if not videos:
        raise C4CError(f"There are no videos below {source.video_root} ({source.looked}).")
    if source.captions is None:
        if split != "all":
            raise C4CError(f"folder has split 'all' only; '{split}' needs --captions FILE.")
        return Dataset("folder", split, _whole_videos(videos, source.video_root))
    rows = list(read_rows(source.captions))
    chosen = [row for row in rows if split in ("all", row.split)]
    if not chosen:
        known = ", ".join(sorted({row.split for row in rows if row.split})) or "none"
        raise C4CError(f"{source.captions} has no row of split '{split}'. Its splits: {known}.")
    return _captioned(chosen, Finder(videos, source.video_root), split)


def _whole_videos(videos: list[Path], root: Path) -> tuple[Clip, ...]:
    """A clip a video, named by stem; by path below the root where stems recur."""
    stems: dict[str, int] = {}
    for path in videos:
        stems[path.stem] = stems.get(path.stem, 0) + 1
    named = [
        (path.stem if stems[path.stem] == 1 else path.relative_to(root).as_posix(), path)
        for path in videos
    ]
    return tuple(Clip(_printable(name), str(path)) for name, path in sorted(named))


def _printable(name: str) -> str:
    """A file name as an id: control characters and stray bytes are spelled out."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)


class Finder:
    """Finds a video by path below the root, by file name, or by stem."""

    def __init__(self, videos: list[Path], root: Path) -> None:
        self._paths = {path.relative_to(root).as_posix(): path for path in videos}
        self._names: dict[str, Path] = {}
        for path in videos:
            self._names.setdefault(path.name, path)
        self._stems = by_stem(videos)

    def __call__(self, name: str) -> Path | None:
        """The video called ``name``, or none: names are looked up, never opened as paths."""
        return self._paths.get(name) or self._names.get(name) or self._stems.get(name)


def read_rows(path: Path) -> Iterator[Row]:
    """Lines of a captions file, checked.

    Raises:
        C4CError: a line is wrong; the message names file, line and column.
    """
    text = read_text(path)
    is_json = path.suffix.lower() in (".jsonl", ".json", ".ndjson")
    for number, values in _json_lines(path, text) if is_json else _csv_lines(path, text):
        where = f"{path} line {number}"
        video = _text(values, "video", where) or _text(values, "clip", where)
        caption = _text(values, "caption", where)
        if not caption:
            raise C4CError(f"{where} has no caption; give every line one.")
        yield Row(
            where,
            check_id(video, where),
            " ".join(caption.split()),
            _seconds(values.get("start"), "start", where) or 0.0,
            _seconds(values.get("end"), "end", where),
            _text(values, "split", where),
            _text(values, "id", where) and check_id(_text(values, "id", where), where),
        )


def _text(values: dict[str, Any], name: str, where: str) -> str:
    """A column's text; numbers are read as written, anything else is a mistake."""
    value = values.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise C4CError(f"{where}: {name} is {type(value).__name__}, expected a text.")
    text = str(value).strip()
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise C4CError(f"{where}: {name} holds half a character (a lone surrogate); mend it.")
    return text


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        _check_columns(path, names)
        reader.fieldnames = names
        for values in reader:
            if None in values or None in values.values():
                raise C4CError(
                    f"{path} line {reader.line_num}: not {len(names)} columns as in the first "
                    "line; put captions with commas in quotes."
                )
            yield reader.line_num, values
    except csv.Error as error:
        raise C4CError(f"{path} line {reader.line_num} is not CSV: {error}.") from None


def _check_columns(path: Path, names: list[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise C4CError(f"{path} has the column {min(twice)} twice; keep one.")
    if "caption" not in names or not {"clip", "video"} & set(names):
        raise C4CError(
            f"{path} needs the columns caption and clip (or video); its first line has "
            f"{', '.join(names) or 'nothing'}."
        )


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise C4CError(f"{path} line {number} is not JSON: {error}.") from None
        if not isinstance(values, dict):
            raise C4CError(f"{path} line {number} is not a JSON object with clip and caption.")
        yield number, values


def _seconds(value: Any, name: str, where: str) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        raise C4CError(f"{where}: {name} is {value}, expected seconds.")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise C4CError(f"{where}: {name} is '{value}', expected seconds.")
    return found


def _captioned(rows: list[Row], find: Finder, split: str) -> Dataset:
    found = Collector()
    for row in rows:
        path = find(row.video)
        name = row.id or (row.video if row.end is None and not row.start else _span(row))
        if path is None:
            found.missing[name] = None
            continue
        try:
            clip = Clip(name, str(path), row.start, row.end)
        except C4CError as error:
            raise C4CError(f"{row.where}: {error}") from None
        if not found.add(clip, row.caption):
            raise C4CError(f"{row.where}: clip '{name}' stands earlier with another span or video.")
    count = len(found.missing)
    notes = (f"{count} clips of the captions file have no video",) if count else ()
    return found.dataset("folder", split, notes)


def _span(row: Row) -> str:
    return f"{row.video}@{row.start:g}-{'' if row.end is None else f'{row.end:g}'}"
