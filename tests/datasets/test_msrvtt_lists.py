"""MSR-VTT's lists in the layouts that are about: none of them stands in for another."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.extract.datasets import load_dataset
from c4c.extract.datasets.check import check_dataset

FULL, VAL = range(6513), range(6513, 7010)
TEST = list(range(7010, 10_000, 3))[:900] + list(range(0, 1000, 10))  # as 1k-A does, it
# reaches into the full split's train: here for 100 clips


def names(numbers: Any) -> str:
    return "\n".join(f"video{number}" for number in numbers)


@pytest.fixture
def archive(place) -> DatasetSource:
    """The archive of Frozen in Time: lists as text files, all sentences in one file."""
    rows = [
        {"image_id": f"video{n}", "caption": f"s{k} of {n}"} for n in range(10_000) for k in (0, 1)
    ]
    place.put("annotation/MSR_VTT.json", {"annotations": rows})
    lists = "high-quality/structured-symlinks"
    place.put(f"{lists}/train_list_full.txt", names(FULL))
    place.put(f"{lists}/val_list_full.txt", names(VAL))
    place.put(f"{lists}/test_list_full.txt", names(range(7010, 10_000)))
    place.put(f"{lists}/train_list_miech.txt", names([*range(6200), *TEST[:456]]))
    place.put(f"{lists}/val_list_jsfusion.txt", names(TEST))
    chosen = {f"video{n}": n % 2 for n in TEST}
    place.put(f"{lists}/jsfusion_val_caption_idx.pkl", pickle.dumps(chosen))
    return place.source("msrvtt")


def clips(source: DatasetSource, split: str) -> set[str]:
    found = load_dataset(source, split)
    return {clip.id for clip in found.clips} | set(found.missing)


def test_7k_is_train_and_val_of_the_full_split_and_never_1k_bs_list(archive: DatasetSource) -> None:
    assert clips(archive, "train-7k") == {f"video{n}" for n in range(7010)}
    for name in ("train_list_full.txt", "val_list_full.txt"):
        path = archive.root / "high-quality/structured-symlinks" / name
        kept = path.read_text()
        path.unlink()
        with pytest.raises(C4CError, match=f"7k list cannot be made .*: {name} is not in"):
            load_dataset(archive, "train-7k")
        path.write_text(kept.rpartition("\n")[0])
        with pytest.raises(C4CError, match="are 7009 clips together, expected 7010"):
            load_dataset(archive, "train-7k")
        path.write_text(kept)


def test_the_7k_list_itself_is_taken_where_there_is_one(archive: DatasetSource) -> None:
    (archive.root / "MSRVTT_train.7k.csv").write_text("video_id\nvideo3\nvideo5\n")
    assert clips(archive, "train-7k") == {"video3", "video5"}


def test_a_leak_between_7k_and_test_is_found_by_the_check(archive: DatasetSource) -> None:
    table = check_dataset(archive, ("train-7k", "test")).table()
    assert "train-7k and test share 100 clips (first 'video0')" in table


def test_the_frozen_archive_has_its_own_test_list(archive: DatasetSource) -> None:
    found = load_dataset(archive, "test")
    assert [caption.text for caption in found.unseen[:3]] == [f"s{n % 2} of {n}" for n in TEST[:3]]
    assert [note for note in found.notes if "published" in note] == []
    row = "ret0,msr1,video7,a sentence\n"
    (archive.root / "MSRVTT_JSFUSION_test.csv").write_text(f"key,vid_key,video_id,sentence\n{row}")
    assert clips(archive, "test") == {"video7"}


@pytest.mark.parametrize("number", [2, -1, "0", None])
def test_a_sentence_that_does_not_exist_is_named(number: object, place, archive) -> None:
    chosen = {f"video{n}": number for n in TEST}
    place.put("high-quality/structured-symlinks/jsfusion_val_caption_idx.pkl", pickle.dumps(chosen))
    with pytest.raises(C4CError, match=r"caption_idx.pkl: 'video7010' has sentence .* has 2 of it"):
        load_dataset(archive, "test")


def hub_row(number: int, caption: object) -> dict[str, object]:
    return {
        "video_id": f"video{number}", "video": f"video{number}.mp4", "caption": caption,
        "source": "MSR-VTT", "category": 9, "url": "https://www.youtube.com/watch?v=x",
        "start time": 137.72, "end time": 149.44, "id": number,
    }  # fmt: skip


@pytest.fixture
def hub(place) -> DatasetSource:
    """The edition on the Hugging Face hub: a file a split, and the videos in one folder."""
    place.put("msrvtt_train_9k.json", [hub_row(n, [f"a {n}", f"b {n}"]) for n in range(3)])
    place.put("msrvtt_train_7k.json", [hub_row(n, [f"a {n}", f"b {n}"]) for n in range(2)])
    place.put("msrvtt_test_1k.json", [hub_row(9, "the only one")])
    place.videos(*(f"video/video{n}.mp4" for n in (0, 1, 2, 9)))
    return place.source("msrvtt")


def test_the_hubs_edition_is_read_without_any_other_file(hub: DatasetSource) -> None:
    train = load_dataset(hub, "train")
    assert [clip.id for clip in train.clips] == ["video0", "video1", "video2"]
    assert {(clip.start, clip.end) for clip in train.clips} == {(0.0, None)}  # already cut
    assert [caption.text for caption in train.captions][:2] == ["a 0", "b 0"]
    assert clips(hub, "train-7k") == {"video0", "video1"}
    assert [caption.text for caption in load_dataset(hub, "test").captions] == ["the only one"]
    assert any("3 clips, the published split has 9000" in note for note in train.notes)
    with pytest.raises(C4CError, match="MSRVTT_data.json"):
        load_dataset(hub, "val")


def test_the_authors_files_are_preferred_to_the_hubs(hub: DatasetSource, place) -> None:
    place.put("MSRVTT_JSFUSION_test.csv", "key,vid_key,video_id,sentence\nr,m,video2,other\n")
    assert clips(hub, "test") == {"video2"}
    place.put("MSRVTT_train.9k.csv", "video_id\nvideo1\n")
    assert clips(hub, "train") == {"video0", "video1", "video2"}  # without their sentences
    place.put("MSRVTT_data.json", {"sentences": [{"video_id": "video1", "caption": "theirs"}]})
    assert clips(hub, "train") == {"video1"}


def test_a_wrong_row_of_the_hubs_edition_is_named(hub: DatasetSource, place) -> None:
    path: Path = place.root / "msrvtt_test_1k.json"
    for rows, words in (
        ([hub_row(9, "x"), hub_row(9, "y")], "row 2: 'video9' has a row already"),
        ([hub_row(9, 4)], "row 1 is int, expected a text"),
        ([{**hub_row(9, "x"), "video_id": 3}], "row 1 video_id is int"),
        ([{"caption": "x"}], "row 1 video is not there"),
        ([{"video_id": "a"}], "no column caption"),
    ):
        path.write_text(json.dumps(rows))
        with pytest.raises(C4CError, match=words):
            load_dataset(hub, "test")
