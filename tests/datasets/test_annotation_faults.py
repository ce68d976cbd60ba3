"""What annotation files have wrong with them: one line that names the file, or no difference."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.extract.datasets import dataset_splits, load_dataset
from c4c.extract.datasets.check import check_dataset

Build = Callable[[str], DatasetSource]
# Where each loader reads texts: the split, and the file that it needs for it.
JSON = [
    ("msrvtt", "train", "msrvtt_data/MSRVTT_data.json"),
    ("activitynet", "train", "train.json"),
    ("activitynet", "test", "val_ids.json"),
    ("didemo", "val", "val_data.json"),
    ("howto100m", "train", "caption.json"),
]
TEXT = [
    *JSON,
    ("msrvtt", "train", "msrvtt_data/MSRVTT_train.9k.csv"),
    ("msrvtt", "test", "msrvtt_data/MSRVTT_JSFUSION_test.csv"),
    ("msvd", "test", "test_list.txt"),
    ("lsmdc", "val", "LSMDC16_annos_val.csv"),
    ("didemo", "val", "val_list.txt"),
    ("howto100m", "train", "HowTo100M_v1.csv"),
    ("manifest", "train", "train.csv"),
    ("manifest", "test", "test.jsonl"),
]


def one_line(source: DatasetSource, split: str, file: str) -> str:
    """The error of a split: a line that names the file."""
    with pytest.raises(C4CError) as caught:
        load_dataset(source, split)
    words = str(caught.value)
    assert "\n" not in words
    assert Path(file).name in words
    return words


@pytest.mark.parametrize(("name", "split", "file"), TEXT)
def test_bytes_that_are_no_text_are_named(name: str, split: str, file: str, build: Build) -> None:
    source = build(name)
    path = source.root / file
    good = path.read_bytes()
    path.write_bytes(good + b"\ncaf\xe9 \n")
    assert "is not UTF-8" in one_line(source, split, file)
    path.write_bytes(good[:-2] + b"\0" + good[-2:])
    assert "NUL" in one_line(source, split, file)


@pytest.mark.parametrize(("name", "split", "file"), [row for row in TEXT if row[0] != "manifest"])
def test_a_file_that_is_not_there_is_named_with_the_place_where_it_was_sought(
    name: str, split: str, file: str, build: Build
) -> None:
    source = build(name)
    (source.root / file).unlink()
    assert f"not in {source.root} (from --root)" in one_line(source, split, file)


@pytest.mark.parametrize(("name", "split", "file"), TEXT)
def test_an_empty_file_is_not_an_empty_split(
    name: str, split: str, file: str, build: Build
) -> None:
    source = build(name)
    (source.root / file).write_bytes(b"")
    with pytest.raises(C4CError):
        load_dataset(source, split)


@pytest.mark.parametrize(("name", "split", "file"), TEXT)
def test_a_byte_order_mark_and_crlf_change_nothing(
    name: str, split: str, file: str, build: Build
) -> None:
    source = build(name)
    before = load_dataset(source, split)
    path = source.root / file
    text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text)
    assert load_dataset(source, split) == before


@pytest.mark.parametrize(("name", "split", "file"), JSON)
def test_json_that_is_none_is_named(name: str, split: str, file: str, build: Build) -> None:
    source = build(name)
    path = source.root / file
    good = path.read_text()
    for content, words in (
        (good[: len(good) // 2], "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("3", "expected"),
        ("null", "expected"),
    ):
        path.write_text(content)
        assert words in one_line(source, split, file)


@pytest.mark.parametrize(
    ("name", "split", "file", "before", "after", "words"),
    [
        ("msrvtt", "train", "msrvtt_data/MSRVTT_data.json", '"sen_id": 0', '"sen_id": NaN', "NaN"),
        ("activitynet", "train", "train.json", "82.73", "NaN", "holds NaN"),
        ("activitynet", "train", "train.json", "82.73", "-Infinity", "holds -Infinity"),
        ("activitynet", "train", "train.json", "v_ehGHCYKzyZ8", "v_QOlSCBRmfWY", "duplicate key"),
        ("activitynet", "train", "train.json", '["A woman', '[1, "A woman', "sentences[0] is 1"),
        ("didemo", "val", "val_data.json", '"video"', '"file"', "video is not there"),
        ("didemo", "val", "val_data.json", '"man turns"', "null", "description is not there"),
        ("msrvtt", "train", "msrvtt_data/MSRVTT_data.json", "caption 0 of", "\\ud800", "half a"),
        ("howto100m", "train", "caption.json", '"end"', '"start"', "duplicate key 'start'"),
        ("howto100m", "train", "caption.json", '"hi folks"', '"hi", "x"', "2 ends and 3 texts"),
    ],
)
def test_odd_values_in_json_are_named(
    name: str, split: str, file: str, before: str, after: str, words: str, build: Build
) -> None:
    source = build(name)
    path = source.root / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    assert words in one_line(source, split, file)


@pytest.mark.parametrize("name", ["", "../x", "/abs", ".", "a/../b", "..\\x", "a\x07b", "a\ud800"])
def test_ids_that_could_only_be_mistakes_are_refused(name: str, place) -> None:
    place.put("val_ids.json", [name])
    place.put("val_1.json", {name: {"sentences": ["x"]}})
    words = one_line(place.source("activitynet"), "test", "val_ids.json")
    assert ("half a character" if "\ud800" in name else "cannot be the id") in words


@pytest.mark.parametrize("name", ["CON", "a b", "ünï", "-x", "%03d", "a:b", "😀"])
def test_ids_that_are_merely_odd_are_taken(name: str, place) -> None:
    place.put("val_ids.json", [name])
    place.put("val_1.json", {name: {"sentences": ["x"]}})
    place.videos(f"{name}.mp4")
    assert [clip.id for clip in load_dataset(place.source("activitynet"), "test").clips] == [name]


def test_captions_are_one_line_each_and_keep_their_letters(place) -> None:
    long = " ".join(f"word{number}" for number in range(10_000))
    said = ["a\tb\nc \x1b[31m\x07 d", "😀 שלום   مرحبا", long, " \n\t"]
    place.put("test_list.txt", "a\n")
    place.put("raw-captions.json", {"a": said})
    place.videos("a.avi")
    found = load_dataset(place.source("msvd"), "test")
    assert [c.text for c in found.captions] == ["a b c [31m d", "😀 שלום مرحبا", long]
    assert any("1 empty captions are left out" in note for note in found.notes)


def test_names_are_the_same_in_either_form_of_unicode(place) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    place.put("test_list.txt", f"{composed}\n")
    place.put("raw-captions.json", {composed: ["x"]})
    place.videos(f"{apart}.avi")
    found = load_dataset(place.source("msvd"), "test")
    assert [clip.id for clip in found.clips] == [composed]
    assert not any("Unicode" in note for note in found.notes)
    place.put("test_list.txt", f"{composed}\n{apart}\nA\na\n")
    place.put("raw-captions.json", {name: ["x"] for name in (composed, apart, "A", "a")})
    notes = load_dataset(place.source("msvd"), "test").notes
    assert any("2 ids differ from another in case or Unicode form" in note for note in notes)


def test_an_id_that_stands_twice_in_a_list_is_noted(build: Build) -> None:
    source = build("msvd")
    path = source.root / "test_list.txt"
    path.write_text(path.read_text() * 2)
    found = load_dataset(source, "test")
    assert len(found.clips) == 1
    assert any(
        "1 ids stand twice in the list (first 'mv89psg6zh4_33_46')" in n for n in found.notes
    )


def test_a_clip_without_captions_and_captions_without_clip_are_left_out(build: Build) -> None:
    source = build("msvd")
    (source.root / "test_list.txt").write_text("mv89psg6zh4_33_46\nnobody_1_2\n")
    found = load_dataset(source, "test")
    assert [clip.id for clip in found.clips] == ["mv89psg6zh4_33_46"]
    assert any("no caption (first 'nobody_1_2')" in note for note in found.notes)
    (source.root / "test_list.txt").write_text("nobody_1_2\n")
    with pytest.raises(C4CError, match="split 'test' has no clip with a caption"):
        load_dataset(source, "test")


def test_the_first_of_several_videos_is_taken_and_said(build: Build, place) -> None:
    source = build("msvd")
    name = "mv89psg6zh4_33_46"
    place.videos(f"small/{name}.mp4", f"more/{name}.avi")
    (place.root / "link").symlink_to(place.root / "small" / f"{name}.mp4")
    found = load_dataset(source, "test")
    words = f"1 clips have several videos, the first is taken ('{name}' has 3, taken: YouTubeClips/"
    assert any(words in note for note in found.notes)
    assert "YouTubeClips" in found.clips[0].path


def test_links_to_one_video_are_one_video(build: Build, place) -> None:
    source = build("msvd")
    name = "mv89psg6zh4_33_46.avi"
    (place.root / "all").mkdir()
    (place.root / "all" / name).symlink_to(place.root / "YouTubeClips" / name)
    assert not any("several" in note for note in load_dataset(source, "test").notes)


@pytest.mark.parametrize("name", ["msrvtt", "msvd", "activitynet", "didemo", "howto100m"])
def test_no_damage_gives_anything_but_a_line(name: str, build: Build) -> None:
    """A seeded walk: values of the JSON replaced, bytes of every file edited."""
    source = build(name)
    chance = random.Random(name)
    files = [p for p in sorted(source.root.rglob("*")) if p.suffix in (".json", ".csv", ".txt")]
    files += sorted(source.root.rglob("*.pkl"))
    for _ in range(60):
        path = chance.choice(files)
        good = path.read_bytes()
        if path.suffix == ".json" and chance.random() < 0.7:
            path.write_text(json.dumps(damaged(json.loads(good), chance)))
        else:
            path.write_bytes(edited(good, chance))
        try:
            report = check_dataset(source)
            report.problem(strict=True)
            assert "Traceback" not in report.table()
        except C4CError as error:
            assert "\n" not in str(error)
        path.write_bytes(good)
    assert all(load_dataset(source, split) for split in dataset_splits(name))


def damaged(value: object, chance: random.Random) -> object:
    """``value`` with something in it dropped, or replaced by something odd."""
    if isinstance(value, dict | list) and value and chance.random() < 0.85:
        key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if chance.random() < 0.15:
            del value[key]
        else:
            value[key] = damaged(value[key], chance)
        return value
    odd = [None, True, 3, 1.5, -1, 10**400, "", "x\ud800", "../x", [], {}, [[]], {"a": 1}]
    return chance.choice([*odd, float("nan")])


def edited(data: bytes, chance: random.Random) -> bytes:
    """``data`` with a byte changed, some cut out, the rest cut off, or something put in."""
    place, size = chance.randrange(len(data)), chance.randrange(1, 20)
    into = chance.choice([b"\t", b",", b'"', b"\n", b"\xef\xbb\xbf", b"\0", b"NaN", b"..", b"/"])
    head, tail = data[:place], data[place:]
    return chance.choice(
        [head + bytes([size * 12]) + tail[1:], head + tail[size:], head, head + into + tail]
    )
