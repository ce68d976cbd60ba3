"""HowTo100M: instruction videos with what their narrators say, for post-pretraining.

A CSV lists the videos; ``caption.json`` holds ``{video_id: {start, end, text}}``, three lists of
one length. Each stretch is a clip and what is said in it its caption. Speech recognition leaves
some stretches without words or without length: those are left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.files import read_json
from c4c.core.records import Dataset
from c4c.core.schema import parse
from c4c.extract.datasets.shared import (
    Collector,
    Counts,
    find_file,
    is_stretch,
    span_id,
    unique_ids,
)
from c4c.extract.datasets.tables import read_table
from c4c.extract.datasets.videos import Videos

SPLITS = ("train",)
EXPECTED: dict[str, Counts] = {}  # everybody has another part of it
_MOST_BYTES = 64 << 30  # of the captions of all 1.2 million videos
CAPTIONS = ("caption.json", "raw_caption.json", "raw_caption_superclean.json")
HINT = "HowTo100M's page gives the CSV and the captions; the videos are downloaded from YouTube."


@dataclass(frozen=True, slots=True)
class _Track:
    """What is said in a video: three lists of one length, with holes where nothing was heard."""

    start: list[object]
    end: list[object]
    text: list[object]

    def __post_init__(self) -> None:
        if not len(self.start) == len(self.end) == len(self.text):
            raise C4CError(
                f"it has {len(self.start)} starts, {len(self.end)} ends and {len(self.text)} "
                "texts; expected as many of each."
            )


def load(source: DatasetSource, split: str) -> Dataset:
    """The stretches of all listed videos; videos are named by id, or as their feature file.

    Raises:
        C4CError: annotations that are missing or wrong.
    """
    listing = find_file(source, ("HowTo100M.csv", "HowTo100M_v1.csv", "HowTo100M*.csv"), HINT)
    files, notes = _listed(listing)
    path = find_file(source, CAPTIONS, HINT)
    data = parse(dict[str, object], read_json(path, _MOST_BYTES, allow_nan=True), str(path))
    videos = Videos(source)
    found = Collector(source, split, videos, notes)
    odd: list[str] = []
    for name, file in files.items():
        if name not in data:
            continue
        video = videos.find(name) or (videos.find(file) if file else None)
        for where, start, end, text in _stretches(data[name], f"{path} '{name}'"):
            if is_stretch(start, end):
                found.add(span_id(name, start, end), text, where, video, float(start), float(end))
            else:
                odd.append(where)
    without = [name for name in files if name not in data]
    if without:
        found.notes.append(f"{len(without)} listed videos have no captions (first '{without[0]}')")
    if odd:
        found.notes.append(f"{len(odd)} stretches without length are left out (first: {odd[0]})")
    return found.dataset()


def _listed(path: Path) -> tuple[dict[str, str], list[str]]:
    """Video ids, each with the name of its feature file less suffixes, and notes."""
    rows = list(read_table(path, ("video_id",)))
    ids, notes = unique_ids((where, row["video_id"].strip()) for where, row in rows)
    files = {row["video_id"].strip(): row.get("feature_file") or "" for _, row in rows}
    return {name: PurePosixPath(files[name].removesuffix(".npy")).name for name in ids}, notes


def _stretches(value: Any, where: str) -> Iterator[tuple[str, Any, Any, str]]:
    """(where, start, end, text) of each stretch of a video."""
    track = parse(_Track, value, where)
    for number, (first, last, words) in enumerate(
        zip(track.start, track.end, track.text, strict=True)
    ):
        said = str(words) if isinstance(words, str | int) else ""  # NaN where nothing was heard
        yield f"{where} stretch {number}", first, last, said
