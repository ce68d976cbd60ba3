"""LSMDC (2016 annotations): short clips of movies, one sentence each.

Three tab-separated files without header; six columns: clip id, start and end as aligned, start
and end as extracted, sentence. The videos are already cut, one file a clip.
"""

from __future__ import annotations

from pathlib import Path

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

SPLITS = ("train", "val", "test")
FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",  # sic
}
EXPECTED = {
    "train": Counts(101_079, 101_079),
    "val": Counts(7_408, 7_408),
    "test": Counts(1_000, 1_000),
}
_COLUMNS = 6


def load(source: DatasetSource, split: str) -> Dataset:
    """One split. A clip id may recur in train and val: each line is a caption of that clip.

    Raises:
        C4CError: files that are missing (and where they were looked for) or wrong lines.
    """
    rows = _read(_annotation(source, split))
    videos = by_stem(scan_videos(source.video_root))
    found = Collector()
    for name, sentence in rows:
        path = videos.get(name)
        if path is None:
            found.missing[name] = None
        else:
            found.add(Clip(name, str(path)), sentence)
    return found.dataset("lsmdc", split, _notes(split, len(rows), len(found.missing)))


def _annotation(source: DatasetSource, split: str) -> Path:
    found = [path for path in (source.root / FILES[split],) if path.is_file()]
    if not found:
        found = sorted(source.root.rglob(FILES[split]))
    if not found:
        raise C4CError(
            f"lsmdc: {FILES[split]} is not in {source.root} (from {source.looked}), nor below it. "
            "LSMDC is given out on request by its authors; put its annotation files there and the "
            ".avi clips below it, or pass --root and --videos."
        )
    return found[0]


def _read(path: Path) -> list[tuple[str, str]]:
    """(clip id, sentence) of each line."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        parts = line.split("\t")
        if len(parts) != _COLUMNS:
            raise C4CError(
                f"lsmdc: {path.name} line {number} has {len(parts)} columns, expected {_COLUMNS} "
                "separated by tabs (clip id, four times, sentence); mend that line."
            )
        where = f"lsmdc: {path.name} line {number}"
        sentence = parts[5].strip()
        if not sentence:
            raise C4CError(f"{where} has an empty sentence; mend or remove it.")
        rows.append((check_id(parts[0].strip(), where), sentence))
    if not rows:
        raise C4CError(f"lsmdc: {path} is empty.")
    return rows


def _notes(split: str, rows: int, missing: int) -> tuple[str, ...]:
    notes = []
    if rows != EXPECTED[split].captions:
        notes.append(f"{rows} captions, the published file has {EXPECTED[split].captions}")
    if missing:
        notes.append(f"{missing} clips have no video")
    return tuple(notes)
