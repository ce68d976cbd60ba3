"""The frame cache: a changed byte never trains, and repair decodes just what is damaged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from c4c.cli.commands.cache import command
from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError, NewerVersion
from c4c.core.records import Dataset
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.datasets import load_dataset
from c4c.extract.video.request import Request
from c4c.training import frames as module
from c4c.training.frame_store import (
    CRCS,
    FRAMES,
    INDEX,
    LENGTHS,
    FrameStore,
    clip_crc,
    frame_caches,
    frame_damage,
    read_index,
    write_index,
)
from c4c.training.frames import open_frames

REQUEST = Request(max_frames=3, size=64)


@pytest.fixture(scope="module")
def dataset(shapes_root: Path) -> Dataset:
    return load_dataset(DatasetSource("shapes", shapes_root), "val")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="module")
def made(dataset: Dataset, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    open_frames(folder, dataset, backbone, REQUEST, workers=1)
    return folder


@pytest.fixture
def cache(made: Path, tmp_path: Path) -> Path:
    """A copy of the one frame cache."""
    (own,) = frame_caches(Path(shutil.copytree(made, tmp_path / "frames")))
    return own


Reopen = Callable[[], FrameStore]


@pytest.fixture
def reopen(cache: Path, dataset: Dataset, backbone: Backbone) -> Reopen:
    return lambda: open_frames(cache.parent, dataset, backbone, REQUEST, workers=1)


def content(store: FrameStore) -> list[np.ndarray]:
    return [np.array(frames) for frames in store.stream(range(len(store.ids)))]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the clips that are decoded from here on."""
    ids: list[str] = []

    def counting(clips: Any, *arguments: Any) -> Any:
        ids.extend(clip.id for clip in clips)
        return real(clips, *arguments)

    real = module.decode_many
    monkeypatch.setattr(module, "decode_many", counting)
    monkeypatch.setattr("c4c.training.frame_part.decode_many", counting)
    return ids


def test_a_changed_byte_names_its_clip_and_is_decoded_again(
    cache: Path, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (cache / FRAMES).read_bytes()
    before = content(reopen())
    flip(cache / FRAMES, len(whole) * 5 // 8 + 7)
    hurt = reopen().ids[5]
    with pytest.raises(C4CError, match=f"'{hurt}' differ from their checksum; run c4c cache ver"):
        content(reopen())
    (error,) = frame_damage(cache)
    assert hurt in str(error)
    assert "1 clips will be decoded again" in str(list(frame_damage(cache, repair=True))[-1])
    assert any("will be decoded again" in str(error) for error in frame_damage(cache))
    ids = decoded(monkeypatch)
    assert all(np.array_equal(a, b) for a, b in zip(content(reopen()), before, strict=True))
    assert ids == [hurt]
    assert (cache / FRAMES).read_bytes() == whole
    assert list(frame_damage(cache)) == []


@pytest.mark.parametrize("way", ["cut", "empty", "gone", "longer"])
def test_frames_of_another_length_are_repaired(cache: Path, reopen: Reopen, way: str) -> None:
    path = cache / FRAMES
    whole = path.read_bytes()
    changed = {"cut": whole[: len(whole) // 2 + 5], "empty": b"", "longer": whole + b"x"}
    path.write_bytes(changed.get(way, b""))
    if way == "gone":
        path.unlink()
    with pytest.raises(C4CError, match=r"frames.bin does"):
        reopen()
    assert list(frame_damage(cache, repair=True))
    reopen()
    assert path.read_bytes() == whole
    assert list(frame_damage(cache)) == []


@pytest.mark.parametrize("column", ["ids", "crc32", "lengths"])
def test_a_permuted_index_is_noticed(cache: Path, reopen: Reopen, column: str) -> None:
    """Even one that was permuted with care, so that its own checksum agrees."""
    index = read_index(cache)
    values = [*getattr(index, column)]
    if column == "lengths":  # else all are alike
        values[2:4] = [values[2] - 1, values[3] + 1]
    values[2], values[3] = values[3], values[2]
    write_index(cache, replace(index, **{column: tuple(values)}))
    with pytest.raises(C4CError, match="other clips or settings|differ from their checksum"):
        content(reopen())
    assert len(list(frame_damage(cache))) == 2


def test_rows_permuted_as_a_whole_are_noticed_too(cache: Path, reopen: Reopen) -> None:
    index = read_index(cache)
    order = [0, 2, 1, *range(3, len(index.ids))]
    rows = {name: tuple(getattr(index, name)[i] for i in order)
            for name in ("ids", "lengths", "crc32")}  # fmt: skip
    write_index(cache, replace(index, **rows))
    assert len(list(frame_damage(cache))) == 2
    with pytest.raises(C4CError, match="of other clips"):
        reopen()


def test_a_damaged_index_is_written_again_and_no_clip_is_decoded(
    cache: Path, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (cache / INDEX).read_bytes()
    for spoil in (whole[:-30], b"", b"[]", whole.replace(b"val-", b"vel-"), b"\0" * 99):
        (cache / INDEX).write_bytes(spoil)
        with pytest.raises(C4CError, match=INDEX):
            reopen()
        assert "set aside" in str(list(frame_damage(cache, repair=True))[-1])
        ids = decoded(monkeypatch)
        assert len(content(reopen())) == 8
        assert ids == []
        assert (cache / INDEX).read_bytes() == whole


def test_an_index_of_a_newer_c4c_is_no_damage(cache: Path) -> None:
    held = json.loads((cache / INDEX).read_text())
    (cache / INDEX).write_text(json.dumps({**held, "schema": 9}))
    (error,) = frame_damage(cache, repair=True)
    assert isinstance(error, NewerVersion)
    assert (cache / INDEX).exists()


def test_frames_of_other_settings_under_this_name_are_refused(
    cache: Path, reopen: Reopen, dataset: Dataset, backbone: Backbone
) -> None:
    other = cache.parent / "other"
    request = Request(max_frames=3, size=64, sampling="head")
    open_frames(other, dataset, backbone, request, workers=1)
    (source,) = frame_caches(other)
    shutil.rmtree(cache)
    shutil.copytree(source, cache)
    with pytest.raises(C4CError, match="of other clips or settings"):
        reopen()


def test_those_from_before_there_were_checksums_are_read(
    cache: Path, reopen: Reopen, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(reopen())
    held = json.loads((cache / INDEX).read_text())
    (cache / INDEX).write_text(json.dumps({key: held[key] for key in ("ids", "lengths")}))
    (cache / CRCS).unlink()
    assert all(np.array_equal(a, b) for a, b in zip(content(reopen()), before, strict=True))
    assert list(frame_damage(cache)) == []
    assert "cannot be checked" in capsys.readouterr().err


def test_one_that_an_older_c4c_began_goes_on_with_checksums(
    cache: Path, reopen: Reopen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left frames and their lengths; a killed run may have left half a clip as well."""
    whole = [(cache / name).read_bytes() for name in (FRAMES, INDEX)]
    part = cache.parent / f".{cache.name}.part"
    cache.rename(part)
    for name in (INDEX, CRCS):
        (part / name).unlink()
    lengths = (part / LENGTHS).read_bytes()
    (part / LENGTHS).write_bytes(lengths[: 5 * 8 + 3])
    (part / FRAMES).write_bytes(whole[0][: len(whole[0]) * 11 // 16])
    ids = decoded(monkeypatch)
    reopen()
    assert len(ids) == 3
    assert [(cache / name).read_bytes() for name in (FRAMES, INDEX)] == whole


def test_every_clip_is_checked_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = frame_caches(made)
    store = FrameStore.open(folder, read_index(folder), 64)
    names: list[str] = []

    def counting(name: str, frames: Any) -> int:
        names.append(name)
        return clip_crc(name, frames)

    monkeypatch.setattr("c4c.training.frame_store.clip_crc", counting)
    for _ in range(2):
        assert len(list(store.stream([3, 1, 3, 0]))) == 4
    assert sorted(set(names)) == sorted(store.ids[place] for place in (0, 1, 3))
    assert len(names) <= 4  # two threads may meet the same clip at once


def test_the_command_verifies_frame_caches(cache: Path) -> None:
    def verify(*options: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, ["verify", str(cache.parent), *options])
        return done.exit_code, done.stdout

    assert verify() == (0, "")
    flip(cache / FRAMES, 0)
    code, lines = verify("--repair")
    assert code == 3
    assert "differ from their checksum" in lines
