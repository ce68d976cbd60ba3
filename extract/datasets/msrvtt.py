"""MSR-VTT: 10,000 clips of the web, 20 sentences each, under three published divisions.

``train`` (the "9k" list) and ``test`` (1k-A, one sentence a clip) are the paper's. 1k-A has no
validation set: its 9,000 training clips are all that are not in test. So ``val`` is the 497
validation clips of the full split, and ``train-8.5k`` is ``train`` without them: a run that
chooses on ``val`` trains on ``train-8.5k``.

Three layouts are read: that of CLIP4Clip's authors, the archive of Frozen in Time, and the
edition on the Hugging Face hub with one file a split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.extract.datasets.shared import Collector, Counts, find_file, look_for, unique_ids
from c4c.extract.datasets.tables import must, read_json, read_lines, read_table
from c4c.extract.datasets.unpickle import read_pickle
from c4c.extract.datasets.videos import Videos, bare_stem

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
# Frozen in Time names the test clips, and which of its sentences stands for each.
FROZEN_TEST, FROZEN_SENTENCES = ("val_list_jsfusion.txt",), ("jsfusion_val_caption_idx.pkl",)
LISTS = {  # as CLIP4Clip's authors give them, then as in Frozen's archive
    "train": ("MSRVTT_train.9k.csv", "train_list_jsfusion.txt"),
    "train-7k": ("MSRVTT_train.7k.csv",),
    "train-full": ("train_list_full.txt",),
    "val-full": ("val_list_full.txt",),
    "test-full": ("test_list_full.txt",),
}
HUB = {
    "train": ("msrvtt_train_9k.json",),
    "train-7k": ("msrvtt_train_7k.json",),
    "test": ("msrvtt_test_1k.json",),
}
FULL = {"train-full": ("train",), "val-full": ("validate", "val"), "test-full": ("test",)}
HINT = (
    "CLIP4Clip's authors give the lists and MSRVTT_data.json with their code (msrvtt_data.zip); "
    "the videos are MSR-VTT's."
)
# (where, video id, sentence) of every sentence that is read, ids of the split, notes on its list.
_Annotations = tuple[list[tuple[str, str, str]], list[str], list[str]]


def load(source: DatasetSource, split: str) -> Dataset:
    """One split. Videos are ``{video_id}.mp4``, else ``.webm``, anywhere below the videos folder.

    Raises:
        C4CError: annotations that are missing or wrong.
    """
    captions, ids, notes = _annotations(source, split)
    videos = Videos(source, suffixes=(".mp4", ".webm"))
    found, wanted = Collector(source, split, videos, notes), set(ids)
    for where, name, text in captions:
        if name in wanted:
            found.add(name, text, where, videos.find(name))
    found.lacking(ids, EXPECTED[split].clips)
    return found.dataset(EXPECTED[split])


def _annotations(source: DatasetSource, split: str) -> _Annotations:
    lists = TEST if split == "test" else LISTS.get(split, ())
    whole = look_for(source, lists) and (split == "test" or look_for(source, DATA))
    hub = look_for(source, HUB.get(split, ()))
    if hub is not None and not whole:
        return _own_ids(list(_hub(hub)))
    if split == "test":
        return _test(source)
    path = find_file(source, DATA, HINT)
    data = must(read_json(path), dict, str(path))
    ids, notes = _listed(source, split, data, path)
    captions = list(_captions(data, path))
    return captions, ids, notes + _unknown(captions, data, path)


def _own_ids(captions: list[tuple[str, str, str]]) -> _Annotations:
    """Annotations of a file that is a list itself."""
    ids, notes = unique_ids((where, name) for where, name, _ in captions)
    return captions, ids, notes


def _hub(path: Path) -> Iterator[tuple[str, str, str]]:
    """The hub's edition: a row a video with its sentence, or the list of its sentences."""
    seen: dict[str, str] = {}
    for where, row in read_table(path, ("caption",)):
        video = row.get("video_id") or bare_stem(must(row.get("video"), str, f"{where} video"))
        name = must(video, str, f"{where} video_id").strip()
        if (other := seen.setdefault(name, where)) != where:
            raise C4CError(f"{where}: '{name}' has a row already ({other}); keep one.")
        said = row["caption"]
        for text in said if isinstance(said, list) else [said]:
            yield where, name, text


def _test(source: DatasetSource) -> _Annotations:
    frozen = look_for(source, FROZEN_SENTENCES)
    if look_for(source, TEST) is None and frozen is not None:
        return _frozen_test(source, frozen)
    path = find_file(source, TEST, HINT)
    rows = read_table(path, ("video_id", "sentence"))
    return _own_ids([(where, row["video_id"].strip(), row["sentence"]) for where, row in rows])


def _frozen_test(source: DatasetSource, chosen: Path) -> _Annotations:
    """Frozen's 1k-A: a list of clips, and the number of the sentence that stands for each."""
    ids, notes = _read_list(find_file(source, FROZEN_TEST, HINT))
    path = find_file(source, DATA, HINT)
    said: dict[str, list[tuple[str, str, str]]] = {name: [] for name in ids}
    for caption in _captions(must(read_json(path), dict, str(path)), path):
        if caption[1] in said:
            said[caption[1]].append(caption)
    numbers = must(read_pickle(chosen), dict, str(chosen))
    captions = []
    for name in ids:
        number = numbers.get(name)
        if not isinstance(number, int) or not 0 <= number < len(said[name]):
            raise C4CError(
                f"{chosen}: '{name}' has sentence {number!r}, and {path} has {len(said[name])} "
                "of it; are the two of one archive?"
            )
        captions.append(said[name][number])
    return captions, ids, notes


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
    if split == "train-7k" and look_for(source, LISTS[split]) is None:
        return _derived_7k(source, data, path)
    if split in FULL:
        return _full(source, split, data, path)
    return _read_list(find_file(source, LISTS[split], HINT))


def _derived_7k(
    source: DatasetSource, data: dict[str, Any], path: Path
) -> tuple[list[str], list[str]]:
    """The "7k" list is train and val of the full split; nothing else may stand in for it.

    1k-B's list (``train_list_miech.txt``) looks like it and holds hundreds of 1k-A's test clips.

    Raises:
        C4CError: these two are missing, or are not the published ones.
    """
    try:
        parts = [_full(source, split, data, path) for split in ("train-full", "val-full")]
    except C4CError as error:
        reason = str(error).removeprefix(f"{source.name}: ")
        raise C4CError(
            f"{source.name}: {LISTS['train-7k'][0]} does not exist, and the 7k list cannot be "
            f"made from those of the full split: {reason}"
        ) from None
    ids, _ = unique_ids((str(path), name) for names, _ in parts for name in names)
    wanted = EXPECTED["train-7k"].clips
    if len(ids) != wanted:
        raise C4CError(
            f"{source.name}: {LISTS['train-7k'][0]} does not exist, and train and val of the full "
            f"split are {len(ids)} clips together, expected {wanted}; put that list there."
        )
    return ids, [note for _, notes in parts for note in notes]


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
