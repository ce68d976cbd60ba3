"""A video's stamp changes with the file and not with the machine."""

import os
from pathlib import Path

import pytest

from c4c.cache.manifests import load_manifests, save_manifest
from c4c.cache.plan import plan
from c4c.cache.stamps import file_stamps
from c4c.core.records import Clip, Dataset


def test_a_stamp_is_of_the_content_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(bytes(10_000))
    second.write_bytes(bytes(10_000))
    os.utime(second, (0, 0))
    found = file_stamps([str(first), str(second), str(first)])
    assert found[str(first)] == found[str(second)] == "10000-" + found[str(first)][-16:]


@pytest.mark.parametrize("place", [0, 4095, 5904, 9999])
def test_a_change_of_head_tail_or_size_shows(place: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(10_000))
    before = file_stamps([str(path)])
    content = bytearray(10_000)
    content[place] = 1
    path.write_bytes(content)
    assert file_stamps([str(path)]) != before
    path.write_bytes(bytes(10_001))
    assert file_stamps([str(path)]) != before


def test_what_is_no_file_has_no_stamp_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    names = [tmp_path / "pipe", tmp_path / "loop", tmp_path / "gone", tmp_path, Path("/dev/zero")]
    assert file_stamps([*map(str, names), "a\0b"]) == {}


def dataset(*names: str) -> Dataset:
    return Dataset("folder", "all", tuple(Clip(name, f"/{name}.mp4") for name in names))


def test_only_clips_whose_stamp_is_known_to_differ_are_replaced(tmp_path: Path) -> None:
    held = plan(dataset("a", "b", "c"), None, 2, files={"/a.mp4": "1-x", "/b.mp4": "1-x"})
    save_manifest(tmp_path, held)
    held = load_manifests(tmp_path)["all"]
    assert held.replaced({"/a.mp4": "1-x"}) == frozenset()  # b and c are gone for now
    assert held.replaced({"/a.mp4": "2-x", "/b.mp4": "1-x"}) == {"a"}
    later = plan(dataset("a", "b", "c"), held, 2, frozenset({"a"}), {"/a.mp4": "2-x"})
    assert later.replaced({"/a.mp4": "2-x", "/b.mp4": "1-x"}) == frozenset()
    assert [part.ids for part in later.parts] == [("b",), ("c",), ("a",)]


def test_a_plan_from_before_there_were_stamps_holds(tmp_path: Path) -> None:
    held = plan(dataset("a", "b"), None, 2)
    assert held.replaced({"/a.mp4": "1-x"}) == frozenset()
    assert plan(dataset("a", "b"), held, 2, files={"/a.mp4": "1-x"}).parts == held.parts
