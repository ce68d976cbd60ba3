"""MSR-VTT: 10,000 clips of the web, 20 sentences each, under three published divisions.

``train`` (the "9k" list) and ``test`` (1k-A, one sentence a clip) are the paper's. 1k-A has no
validation set: its 9,000 training clips are all that are not in test. So ``val`` is the 497
validation clips of the full split, and ``train-8.5k`` is ``train`` without them: a run that
chooses on ``val`` trains on ``train-8.5k``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from c4c.config import DatasetSource
from c4c.errors import C4CError
from c4c.extract.datasets.shared import Collector, Counts, find_file, unique_ids
from c4c.extract.datasets.tables import must, read_json, read_lines, read_table
from c4c.extract.datasets.videos import Videos
from c4c.records import Dataset

SPLITS = ("train", "test")
DIVISIONS = (  # splits that belong together; no clip may be in two of one division
    ("train", "test"),
    ("train-8.5k", "val", "test"),
    ("train-7k", "test"),
    ("train-full", "val-full", "test-full"),
)
EXPECTED = {
    "train": Counts(9_000, 180_000),
    "train-8.5k": Counts(8_503, 170_060),
    "train-7k": Counts(7_010, 140_200),
    "val": Counts(497, 9_940),
    "test": Counts(1_000, 1_000),
    "train-full": Counts(6_513, 130_260),
    "val-full": Counts(497, 9_940),
    "test-full": Counts(2_990, 59_800),
}
DATA = ("MSRVTT_data.json", "MSR_VTT.json")
TEST = ("MSRVTT_JSFUSION_test.csv",)
LISTS = {  # as CLIP4Clip's authors give them, then as in the layout of videos/all/
    "train": ("MSRVTT_train.9k.csv", "train_list_jsfusion.txt"),
    "train-7k": ("MSRVTT_train.7k.csv", "train_list_miech.txt"),
    "train-full": ("train_list_full.txt",),
    "val-full": ("val_list_full.txt",),
    "test-full": ("test_list_full.txt",),
}
FULL = {"train-full": ("train",), "val-full": ("validate", "val"), "test-full": ("test",)}
HINT = (
    "CLIP4Clip's authors give the lists and MSRVTT_data.json with their code (msrvtt_data.zip); "
    "the videos are MSR-VTT's."
)


def load(source: DatasetSource, split: str) -> Dataset:
    """One split. Videos are ``{video_id}.mp4``, else ``.webm``, anywhere below the videos folder.

    Raises:
        C4CError: annotations that are missing or wrong.
    """
    if split == "test":
        path = find_file(source, TEST, HINT)
        captions = list(_test_captions(path))
        ids, notes = unique_ids((where, name) for where, name, _ in captions)
    else:
        path = find_file(source, DATA, HINT)
        data = must(read_json(path), dict, str(path))
        ids, notes = _listed(source, split, data, path)
        captions = list(_captions(data, path))
        notes += _unknown(captions, data, path)
    videos = Videos(source, suffixes=(".mp4", ".webm"))
    found, wanted = Collector(source, split, videos, notes), set(ids)
    for where, name, text in captions:
        if name in wanted:
            found.add(name, text, where, videos.find(name))
    found.lacking(ids, EXPECTED[split].clips)
    return found.dataset(EXPECTED[split])


def _test_captions(path: Path) -> Iterator[tuple[str, str, str]]:
    for where, row in read_table(path, ("video_id", "sentence")):
        yield where, row["video_id"].strip(), row["sentence"]


def _captions(data: dict[str, Any], path: Path) -> Iterator[tuple[str, str, str]]:
    """(where, video id, text), from ``sentences``, or ``annotations`` in the other layout."""
    key, name = ("sentences", "video_id") if "sentences" in data else ("annotations", "image_id")
    for number, one in enumerate(must(data.get(key), list, f"{path}: {key}")):
        where = f"{path} {key}[{number}]"
        row = must(one, dict, where)
        yield where, must(row.get(name), str, f"{where} {name}"), row.get("caption", "")


def _videos(data: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The rows of ``videos``; the other layout has none."""
    rows = must(data.get("videos", []), list, f"{path}: videos")
    return [must(one, dict, f"{path} videos[{place}]") for place, one in enumerate(rows)]


def _unknown(captions: list[tuple[str, str, str]], data: dict[str, Any], path: Path) -> list[str]:
    """A note on captions of videos that the same file does not list."""
    listed = {str(row.get("video_id")) for row in _videos(data, path)}
    odd = [where for where, name, _ in captions if listed and name not in listed]
    return [f"{len(odd)} captions are of unknown videos (first: {odd[0]})"] if odd else []


def _listed(
    source: DatasetSource, split: str, data: dict[str, Any], path: Path
) -> tuple[list[str], list[str]]:
    """Ids of a split, and notes on the list they come from."""
    if split == "val":
        return _full(source, "val-full", data, path)
    if split == "train-8.5k":
        ids, notes = _read_list(find_file(source, LISTS["train"], HINT))
        held, _ = _full(source, "val-full", data, path)
        return [name for name in ids if name not in set(held)], notes
    if split in FULL:
        return _full(source, split, data, path)
    return _read_list(find_file(source, LISTS[split], HINT))


def _read_list(path: Path) -> tuple[list[str], list[str]]:
    """A CSV of one column ``video_id``, or a text file of ids."""
    if path.suffix == ".txt":
        return unique_ids((where, line.strip()) for where, line in read_lines(path))
    rows = read_table(path, ("video_id",))
    return unique_ids((where, row["video_id"].strip()) for where, row in rows)


def _full(
    source: DatasetSource, split: str, data: dict[str, Any], path: Path
) -> tuple[list[str], list[str]]:
    """Ids of a part of the full split: by each video's ``split``, else from a list."""
    rows = _videos(data, path)
    if not any("split" in row for row in rows):
        return _read_list(find_file(source, LISTS[split], HINT))
    ids, notes = unique_ids(
        (f"{path} videos[{place}]", must(row.get("video_id"), str, f"{path} videos[{place}] id"))
        for place, row in enumerate(rows)
        if row.get("split") in FULL[split]
    )
    if not ids:
        raise C4CError(f"{path}: no video has the split {' or '.join(FULL[split])}.")
    return ids, notes
