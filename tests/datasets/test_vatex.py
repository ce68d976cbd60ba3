"""VATEX: captions in any of their forms, ids that name a span of a video."""

import json
from collections.abc import Callable

import pytest

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.extract.datasets import divisions, load_dataset

Build = Callable[[str], DatasetSource]
TRAIN, TEST = "i0ccSYMl0vo_000027_000037", "G9zN5TTuGO4_000179_000189"


def texts(dataset: Dataset) -> list[str]:
    return [caption.text for caption in dataset.captions]


@pytest.mark.parametrize("form", ["enCap", "plain", "list", "official"])
def test_english_captions_are_read_in_every_form(form: str, build: Build, place) -> None:
    source = build("vatex")
    before = load_dataset(source, "train"), load_dataset(source, "test")
    said = json.loads((place.root / "vatex_data.json").read_text())
    (place.root / "vatex_data.json").unlink()
    rows = [{"videoID": name, **value} for name, value in said.items()]
    if form == "plain":
        place.put("ref_captions.json", {name: value["enCap"] for name, value in said.items()})
    elif form == "list":
        place.put("vatex_data.json", rows)
    elif form == "official":
        place.put("vatex_training_v1.0.json", [row for row in rows if row["videoID"] == TRAIN])
        place.put("vatex_validation_v1.0.json", [row for row in rows if row["videoID"] != TRAIN])
    else:
        place.put("vatex_data.json", said)
    assert (load_dataset(source, "train"), load_dataset(source, "test")) == before
    assert texts(before[0]) == [f"one of {TRAIN}", "two"]


def test_a_file_of_the_id_is_the_clip_and_one_of_the_video_holds_it(build: Build, place) -> None:
    source = build("vatex")
    clip = load_dataset(source, "test").clips[0]
    assert (clip.id, clip.start, clip.end) == (TEST, 0.0, None)
    (place.root / f"videos/{TEST}.mp4").rename(place.root / "videos/G9zN5TTuGO4.webm")
    clip = load_dataset(source, "test").clips[0]
    assert (clip.id, clip.start, clip.end) == (TEST, 179.0, 189.0)
    assert clip.path.endswith("G9zN5TTuGO4.webm")
    (place.root / "videos/G9zN5TTuGO4.webm").unlink()
    assert load_dataset(source, "test").missing == (TEST,)


def test_val_is_a_split_where_it_has_a_list(build: Build, place) -> None:
    source = build("vatex")
    assert divisions(source) == (("train", "val", "test"),)
    (place.root / "val_list.txt").unlink()
    assert divisions(source) == (("train", "test"),)
    with pytest.raises(C4CError, match=r"val_list.txt is not in .*cshizhe/hgr_v2t"):
        load_dataset(source, "val")
    with pytest.raises(C4CError, match="vatex has no split 'dev'. It has train, val, test"):
        load_dataset(source, "dev")


def test_without_a_list_train_is_the_official_training_file(build: Build, place) -> None:
    source = build("vatex")
    (place.root / "vatex_data.json").unlink()
    (place.root / "train_list.txt").unlink()
    place.put("vatex_training_v1.0.json", [{"videoID": TRAIN, "enCap": ["x"], "chCap": ["y"]}])
    assert [clip.id for clip in load_dataset(source, "train").clips] == [TRAIN]


def test_the_published_numbers_pass_without_a_note(place) -> None:
    sizes = {"train": 25_991, "val": 1_500, "test": 1_500}
    said = {}
    for split, size in sizes.items():
        names = [f"{split}-video_{n:06d}_{n + 10:06d}" for n in range(size)]
        place.put(f"{split}_list.txt", "\n".join(names))
        said |= {name: {"enCap": [f"{name} {k}" for k in range(10)]} for name in names}
    place.put("vatex_data.json", said)
    for split, size in sizes.items():
        found = load_dataset(place.source("vatex"), split)
        assert (len(found.missing), len(found.unseen)) == (size, 10 * size)
        assert not any("published" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("vatex_data.json", {TEST: {"enCap": "x"}}, "enCap is str, expected a list"),
        ("vatex_data.json", {TEST: {"chCap": ["x"]}}, "enCap is not there"),
        ("vatex_data.json", {TEST: 3}, "enCap is int"),
        ("vatex_data.json", [{"enCap": ["x"]}], r"\[0\] videoID is not there"),
        ("vatex_data.json", [{"videoID": TEST, "enCap": []}] * 2, "has captions already"),
        ("vatex_data.json", 4, "is int, expected an object"),
    ],
)
def test_wrong_captions_are_named(
    name: str, content: object, words: str, build: Build, place
) -> None:
    source = build("vatex")
    place.put(name, content)
    with pytest.raises(C4CError, match=words):
        load_dataset(source, "test")
