"""Videos as archives name them: none is lost for its suffix, none passed over in silence."""

from pathlib import Path

import pytest

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.extract.datasets import load_dataset
from c4c.extract.datasets.videos import OTHER_SUFFIXES, VIDEO_SUFFIXES, Videos

# The suffixes that DiDeMo's lists hold, and some that nobody has heard of.
LISTED = [
    *(".mp4", ".mov", ".MOV", ".avi", ".mpg", ".m4v", ".wmv", ".3gp", ".", ".mts", ".m2ts"),
    *(".3g2", ".qt", ".3gpp", ".asf", ".divx", ".null", ".mkv", ".xyz"),
]


def didemo(place, on_disk) -> DatasetSource:
    names = [f"{n}@N02_1348_87ef{n}{suffix}" for n, suffix in enumerate(LISTED)]
    place.put("test_list.txt", "\n".join(names))
    rows = [{"video": name, "description": f"words {n}"} for n, name in enumerate(names)]
    place.put("test_data.json", rows)
    place.videos(*(f"videos/{on_disk(name)}" for name in names))
    return place.source("didemo")


@pytest.mark.parametrize(
    "on_disk",
    [
        lambda name: name,
        lambda name: f"{name.rpartition('.')[0]}.mp4",
        lambda name: f"{name}.mp4",
        lambda name: name.rpartition(".")[0],
    ],
    ids=["as listed", "stem and .mp4", "listed name and .mp4", "no suffix"],
)
def test_no_clip_of_didemo_is_lost_for_its_suffix(on_disk, place) -> None:
    found = load_dataset(didemo(place, on_disk), "test")
    assert found.missing == ()
    assert [clip.id for clip in found.clips] == sorted(
        f"{n}@N02_1348_87ef{n}" for n in range(len(LISTED))
    )
    assert len({clip.path for clip in found.clips}) == len(LISTED)
    assert not any("suffix" in note for note in found.notes)


def test_a_file_that_is_named_in_full_is_the_video_whatever_its_suffix(place) -> None:
    names = ["a.null", "b.xyz", "d.txt", "e.m2ts", "sub/c.dat"]
    place.videos(*(f"videos/{name}" for name in names), "videos/b.mp4")
    place.put("captions.csv", "\n".join(["video,caption", *(f"{name},x" for name in names)]))
    source = DatasetSource("folder", place.root, place.root / "videos", place.root / "captions.csv")
    found = load_dataset(source, "all")
    assert found.missing == ()
    own = [clip for clip in found.clips if clip.id in names]
    assert [clip.path for clip in own] == [str(place.root / "videos" / name) for name in names]
    assert {clip.id for clip in found.clips} - set(names) == {"b"}


def test_by_its_stem_only_a_video_is_found(place) -> None:
    place.videos("a.xyz", "a.txt", "b.json")
    place.put("captions.csv", "video,caption\na,x\nb,y\n")
    found = load_dataset(place.source("folder", "captions.csv"), "all")
    assert found.missing == ("a", "b")


def test_unknown_suffixes_in_a_folder_are_named(place) -> None:
    place.videos("a.mp4", "b.xyz", "c.XYZ", "d.mod", "e", "notes.txt", "list.csv", ".hidden.mp4")
    found = load_dataset(place.source("folder"), "all")
    assert [clip.id for clip in found.clips] == ["a"]
    (note,) = found.notes
    assert note.startswith("3 files are passed over")
    assert note.endswith("(1 .mod, 2 .xyz)")
    with pytest.raises(C4CError, match="3 files are passed over"):
        load_dataset(place.source("folder"), "all", strict=True)


def test_a_folder_of_nothing_but_unknown_suffixes_says_which(tmp_path: Path) -> None:
    (tmp_path / "a.mod").write_bytes(b"x")
    with pytest.raises(C4CError, match=r"There are no videos below .*1 \.mod"):
        load_dataset(DatasetSource("folder", tmp_path), "all")


def test_an_unknown_suffix_that_a_list_names_is_not_told(place) -> None:
    place.videos("a.xyz", "b.xyz", "c.mp4")
    videos = Videos(place.source("folder"))
    assert videos.find("a.xyz") == place.root / "a.xyz"
    assert videos.notes() == ["1 files are passed over, their suffix is no video's (1 .xyz)"]


def test_no_suffix_is_both_a_videos_and_something_elses() -> None:
    assert not VIDEO_SUFFIXES & OTHER_SUFFIXES
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in VIDEO_SUFFIXES)
