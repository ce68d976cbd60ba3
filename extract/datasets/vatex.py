"""VATEX: ten-second spans of videos, ten English captions each; all of them count in evaluation.

The division of most papers has 25,991 training clips, and halves the 3,000 of the official
validation set: 1,500 for val and 1,500 for test. Captions are ``{id: {"enCap": [...]}}`` or
``{id: [...]}`` in one file, or the official lists of ``{videoID, enCap, chCap}``. An id such as
``i0ccSYMl0vo_000027_000037`` names a video and its seconds 27 to 37: a file of that id is the
clip, and of a file of the whole video the clip is that stretch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.extract.datasets.shared import Collector, Counts, find_file, look_for, unique_ids
from c4c.extract.datasets.tables import must, read_json, read_lines
from c4c.extract.datasets.videos import Videos

SPLITS = ("train", "test")
EXPECTED = {
    "train": Counts(25_991, 259_910),
    "val": Counts(1_500, 15_000),
    "test": Counts(1_500, 15_000),
}
CAPTIONS = ("vatex_data.json", "ref_captions.json")
OFFICIAL = {"train": ("vatex_training*.json",), "val": ("vatex_validation*.json",)}
HINT = (
    "The captions are on VATEX's page, the lists of the usual division with the code of "
    "Fine-grained Video-Text Retrieval (cshizhe/hgr_v2t)."
)
_SPAN = re.compile(r"(?P<video>.+)_(?P<start>\d{6})_(?P<end>\d{6})")


def splits(source: DatasetSource) -> tuple[str, ...]:
    """Train and test, and val where it has a list: many archives have none."""
    there = look_for(source, ("val_list.txt",)) is not None
    return ("train", "val", "test") if there else SPLITS


def load(source: DatasetSource, split: str) -> Dataset:
    """One split.

    Raises:
        C4CError: annotations that are missing or wrong, or an unknown split.
    """
    if split not in EXPECTED:
        raise C4CError(f"vatex has no split '{split}'. It has {', '.join(EXPECTED)}.")
    said = _said(source)
    ids, notes = _listed(source, split)
    videos = Videos(source)
    found = Collector(source, split, videos, notes)
    for name in ids:
        path, start, end = _clip(videos, name)
        for where, text in said.get(name, ()):
            found.add(name, text, where, path, start, end)
    found.lacking(ids, EXPECTED[split].clips)
    return found.dataset(EXPECTED[split])


def _clip(videos: Videos, name: str) -> tuple[Path | None, float, float | None]:
    """The file of a clip, whole; or its stretch of the file of the video that it is from."""
    path, span = videos.find(name), _SPAN.fullmatch(name)
    if path is not None or span is None:
        return path, 0.0, None
    whole = videos.find(span["video"])
    return (whole, float(span["start"]), float(span["end"])) if whole else (None, 0.0, None)


def _listed(source: DatasetSource, split: str) -> tuple[list[str], list[str]]:
    """Ids of a split: its list, or for train all of the official training file."""
    names = (f"{split}_list.txt",)
    official = look_for(source, OFFICIAL["train"])
    if split == "train" and official is not None and look_for(source, names) is None:
        return unique_ids((where, row["videoID"]) for where, row in _rows(official))
    lines = read_lines(find_file(source, names, HINT))
    return unique_ids((where, line.strip()) for where, line in lines)


def _said(source: DatasetSource) -> dict[str, list[tuple[str, str]]]:
    """(where, caption) of every clip."""
    one = look_for(source, CAPTIONS)
    official = [path for names in OFFICIAL.values() if (path := look_for(source, names))]
    found: dict[str, list[tuple[str, str]]] = {}
    for path in [one] if one else official or [find_file(source, CAPTIONS, HINT)]:
        for name, where, captions in _captions(path):
            if name in found:
                raise C4CError(f"{where}: '{name}' has captions already; keep one row of it.")
            texts = must(captions, list, f"{where} enCap")
            found[name] = [(f"{where} caption {n}", text) for n, text in enumerate(texts)]
    return found


def _captions(path: Path) -> Iterator[tuple[str, str, Any]]:
    """(id, where, captions) of each clip of a file, whichever form it has."""
    data = read_json(path)
    if isinstance(data, list):
        for where, row in _rows(path, data):
            yield row["videoID"], where, row.get("enCap")
        return
    for name, value in must(data, dict, str(path)).items():
        yield name, f"{path} '{name}'", value.get("enCap") if isinstance(value, dict) else value


def _rows(path: Path, data: Any = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of an official list; every row has a ``videoID``."""
    for number, one in enumerate(must(read_json(path) if data is None else data, list, str(path))):
        where = f"{path} [{number}]"
        row = must(one, dict, where)
        must(row.get("videoID"), str, f"{where} videoID")
        yield where, row
