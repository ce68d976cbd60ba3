"""Each benchmark's loader on a miniature of its real layout."""

import inspect
from collections import Counter
from collections.abc import Callable

import pytest

from c4c.core.config import MADE, DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.extract.datasets import (
    DATASETS,
    Loader,
    OwnSplits,
    dataset_splits,
    divisions,
    load_dataset,
    loader,
)

Build = Callable[[str], DatasetSource]
# Those of users' own files have tests of their own.
MINIATURES = [name for name in DATASETS if not isinstance(loader(name), OwnSplits)]
MINIATURES = [name for name in MINIATURES if name not in MADE]  # these are not downloaded
COUNTED = [name for name in MINIATURES if loader(name).EXPECTED]


def texts(dataset: Dataset) -> list[str]:
    return [caption.text for caption in dataset.captions]


def ids(dataset: Dataset) -> list[str]:
    return [clip.id for clip in dataset.clips]


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_dataset_has_what_a_loader_has(name: str) -> None:
    module = loader(name)
    assert isinstance(module, Loader)
    assert module.SPLITS and all(isinstance(split, str) for split in module.SPLITS)
    assert list(inspect.signature(module.load).parameters) == ["source", "split"]
    known = {split for way in getattr(module, "DIVISIONS", [module.SPLITS]) for split in way}
    assert set(module.EXPECTED) <= known or isinstance(module, OwnSplits)


@pytest.mark.parametrize("name", MINIATURES)
def test_every_split_of_every_benchmark_loads_and_finds_its_videos(name: str, build: Build) -> None:
    source = build(name)
    for split in {split for division in divisions(source) for split in division}:
        found = load_dataset(source, split)
        assert found.clips and found.captions
        assert not found.missing
        assert {caption.clip_id for caption in found.captions} == set(ids(found))


@pytest.mark.parametrize("name", COUNTED)
def test_a_miniature_is_not_taken_for_the_whole_benchmark(name: str, build: Build) -> None:
    source = build(name)
    for split in dataset_splits(name):
        assert any("the published split has" in note for note in load_dataset(source, split).notes)
        with pytest.raises(C4CError, match="not complete"):
            load_dataset(source, split, strict=True)


def test_an_unknown_split_lists_those_there_are(build: Build) -> None:
    with pytest.raises(C4CError, match="It has train, test, train-8.5k, val, train-7k, train-full"):
        load_dataset(build("msrvtt"), "dev")


# MSR-VTT


def test_msrvtt_divides_its_videos_as_published(build: Build) -> None:
    source = build("msrvtt")
    expected = {
        "train": ["video0", "video1", "video6513", "video7010"],
        "train-8.5k": ["video0", "video1", "video7010"],
        "train-7k": ["video0", "video1", "video6513"],
        "val": ["video6513"],
        "test": ["video9770"],
        "train-full": ["video0", "video1"],
        "val-full": ["video6513"],
        "test-full": ["video7010", "video9770"],
    }
    assert {split: ids(load_dataset(source, split)) for split in expected} == expected
    assert texts(load_dataset(source, "val")) == [f"caption {n} of video6513" for n in range(2)]
    only = 'a person is connecting something, to "system"'
    assert texts(load_dataset(source, "test")) == [only]  # the test list has its own sentence


def test_msrvtt_counts_add_up() -> None:
    expected = DATASETS["msrvtt"].EXPECTED
    full = [expected[f"{split}-full"].clips for split in ("train", "val", "test")]
    assert sum(full) == expected["train"].clips + expected["test"].clips == 10_000
    assert expected["train-8.5k"].clips + expected["val"].clips == expected["train"].clips
    assert all(c.captions == 20 * c.clips for split, c in expected.items() if split != "test")


def test_msrvtt_takes_mp4_before_webm_and_says_nothing(place, build: Build) -> None:
    source = build("msrvtt")
    place.videos("MSRVTT_Videos/video0.webm")
    (place.root / "MSRVTT_Videos/video1.mp4").rename(place.root / "MSRVTT_Videos/video1.webm")
    found = load_dataset(source, "train-full")
    assert [clip.path.rpartition("/")[2] for clip in found.clips] == ["video0.mp4", "video1.webm"]
    assert not any("several videos" in note for note in found.notes)


def test_msrvtt_in_the_layout_with_videos_all(place) -> None:
    said = [
        {"caption": f"c{number} of {name}", "id": number, "image_id": name}
        for name in ("video0", "video1", "video9")
        for number in range(2)
    ]
    images = [{"id": name} for name in ("video0", "video1", "video9")]
    place.put("annotation/MSR_VTT.json", {"info": {}, "images": images, "annotations": said})
    lists = "high-quality/structured-symlinks"
    place.put(f"{lists}/train_list_jsfusion.txt", "video0\nvideo1\n")
    place.put(f"{lists}/val_list_full.txt", "video1\n")
    place.videos(*(f"videos/all/video{number}.mp4" for number in (0, 1, 9)))
    source = place.source("msrvtt")
    assert texts(load_dataset(source, "train-8.5k")) == ["c0 of video0", "c1 of video0"]
    assert ids(load_dataset(source, "val")) == ["video1"]
    with pytest.raises(C4CError, match=r"MSRVTT_JSFUSION_test\.csv is not in .*\(from --root\)"):
        load_dataset(source, "test")


def test_msrvtt_names_captions_of_unknown_videos(place, build: Build) -> None:
    source = build("msrvtt")
    data = {
        "videos": [{"video_id": "video0", "split": "train"}],
        "sentences": [
            {"video_id": "video0", "caption": "x"},
            {"video_id": "video99", "caption": "y"},
        ],
    }
    place.put("msrvtt_data/MSRVTT_data.json", data)
    notes = load_dataset(source, "train-full").notes
    assert any("1 captions are of unknown videos" in note for note in notes)
    lacking = load_dataset(source, "train").notes
    assert any("3 listed clips have no caption (first 'video1')" in note for note in lacking)


def test_annotations_are_found_behind_a_link_and_must_not_differ(place, build: Build) -> None:
    source = build("msrvtt")
    (place.root / "msrvtt_data").rename(place.root.parent / f"{place.root.name}-disk")
    (place.root / "data").symlink_to(place.root.parent / f"{place.root.name}-disk")
    assert len(load_dataset(source, "test").clips) == 1
    place.put("old/MSRVTT_JSFUSION_test.csv", "key,vid_key,video_id,sentence\nr,m,video0,x\n")
    with pytest.raises(C4CError, match="different files called MSRVTT_JSFUSION_test"):
        load_dataset(source, "test")


# MSVD


def test_msvd_keeps_every_caption_of_a_clip(build: Build) -> None:
    found = load_dataset(build("msvd"), "test")
    assert texts(found) == ["a squirrel eats", "an animal eats"]
    assert [c.id for c in found.captions] == ["mv89psg6zh4_33_46#0", "mv89psg6zh4_33_46#1"]


def test_msvd_reads_json_as_it_reads_the_pickle(place, build: Build) -> None:
    source = build("msvd")
    before = load_dataset(source, "test")
    (place.root / "raw-captions.pkl").unlink()
    said = {"mv89psg6zh4_33_46": [["a", "squirrel", "eats"], "an animal eats"]}
    for name in ("captions_msvd.json", "raw-captions.json"):
        path = place.put(name, said)
        assert load_dataset(source, "test") == before
        path.unlink()


def test_a_complete_benchmark_passes_strictly_and_without_a_note(place) -> None:
    """MSVD's published numbers, 18 to 81 captions a clip."""
    total = {"train": (1200, 48_774), "val": (100, 4_290), "test": (670, 27_763)}
    said = {}
    for split, (clips, captions) in total.items():
        names = [f"{split}{number:04d}_1_2" for number in range(clips)]
        place.put(f"{split}_list.txt", "\n".join(names))
        place.videos(*(f"YouTubeClips/{name}.avi" for name in names))
        counts = Counter(names[number % clips] for number in range(captions))
        said |= {name: [["word", str(n)] for n in range(many)] for name, many in counts.items()}
    place.put("raw-captions.json", said)
    for split in total:
        assert load_dataset(place.source("msvd"), split, strict=True).notes == ()


# ActivityNet


def test_activitynet_joins_sentences_and_finds_files_without_v(build: Build) -> None:
    found = load_dataset(build("activitynet"), "train")
    assert ids(found) == ["v_QOlSCBRmfWY", "v_ehGHCYKzyZ8"]
    assert set(texts(found)) == {"A woman stands in a room. The girl dances around the room."}
    assert any("1 listed clips have no caption (first 'v_uncaptioned')" in n for n in found.notes)
    assert {(clip.start, clip.end) for clip in found.clips} == {(0.0, None)}


def test_activitynet_never_chooses_on_its_gallery_by_default(build: Build) -> None:
    source = build("activitynet")
    assert dataset_splits("activitynet") == ("train", "test")
    assert ids(load_dataset(source, "test")) == ["v_uqiMw7tQ1Cc"]  # and not what no list names


# DiDeMo


def test_didemo_matches_names_whatever_their_suffix_and_cuts_at_31_seconds(build: Build) -> None:
    source = build("didemo")
    found = load_dataset(source, "train")
    assert ids(found) == [
        "12090392@N02_13482799053_87ef417396",
        "54322086@N00_2408598493_274c77d26a",
    ]
    assert set(texts(found)) == {"camera zooms in man turns"}
    assert {(clip.start, clip.end) for clip in found.clips} == {(0.0, 31.0)}
    assert load_dataset(source, "val").clips[0].path.endswith("a4a0c8b2a6.")


# HowTo100M


def test_howto100m_has_a_clip_a_stretch(build: Build) -> None:
    found = load_dataset(build("howto100m"), "train")
    assert [(c.id, c.start, c.end) for c in found.clips] == [
        ("nVbIUDjzWY4@0.08-4", 0.08, 4.0),
        ("nVbIUDjzWY4@2.37-8.5", 2.37, 8.5),
    ]
    assert texts(found) == ["hi folks", "so let's begin"]


def test_howto100m_leaves_out_what_is_no_stretch_and_counts_it(place, build: Build) -> None:
    source = build("howto100m")
    place.put("HowTo100M_v1.csv", "video_id,feature_file\na,dir/b.mp4.npy\nsilent,silent.mp4.npy\n")
    odd = [(5, 2), (float("nan"), 3), (-1, 3), (2, 2), (None, 3), (True, 3), (0, float("inf"))]
    start, end = map(list, zip(*odd, (1, 2), (2, 3), strict=True))
    said = [*("x" for _ in odd), float("nan"), 7]
    place.put("caption.json", {"a": {"start": start, "end": end, "text": said}})
    place.videos("videos/b.mp4")  # found by the name of its feature file
    found = load_dataset(source, "train")
    assert [(c.id, t.text) for c, t in zip(found.clips, found.captions, strict=True)] == [
        ("a@2-3", "7")
    ]
    notes = " ".join(found.notes)
    assert f"{len(odd)} stretches without length" in notes
    assert "1 empty captions" in notes
    assert "1 listed videos have no captions (first 'silent')" in notes


def test_howto100m_with_lists_of_unequal_length_stops(place, build: Build) -> None:
    source = build("howto100m")
    place.put("caption.json", {"nVbIUDjzWY4": {"start": [1], "end": [2, 3], "text": ["x"]}})
    with pytest.raises(C4CError, match="1 starts, 2 ends and 1 texts"):
        load_dataset(source, "train")


# LSMDC


def test_lsmdc_prefers_the_published_place(place, build: Build) -> None:
    source = build("lsmdc")
    name = "1004_Juno_00.00.32.801-00.00.37.522"
    place.videos(f"a/{name}.mp4", f"a/{name}.avi")
    found = load_dataset(source, "val")
    assert found.clips[0].path.endswith(f"videos/1004_Juno/{name}.avi")
    assert not any("several videos" in note for note in found.notes)


def test_lsmdc_claims_no_number_of_clips_where_ids_recur(build: Build) -> None:
    notes = load_dataset(build("lsmdc"), "train").notes
    assert not any("clips" in note for note in notes)
    assert DATASETS["lsmdc"].EXPECTED["train"].clips is None
