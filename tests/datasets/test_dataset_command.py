"""What the options of ``c4c dataset`` do, through the command itself."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from c4c.cli.app import group
from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError

Build = Callable[[str], DatasetSource]


def check(*args: str) -> Result:
    return CliRunner().invoke(group, ["dataset", "check", *args])


def rows(done: Result) -> dict[str, list[str]]:
    """The table by split."""
    lines = [line.split() for line in done.stdout.splitlines()]
    return {cells[0]: cells[1:] for cells in lines if len(cells) == 8 and ":" not in cells[0]}


@pytest.mark.shows("dataset check", "--root", "--split", "--missing-file")
def test_splits_of_a_root_are_checked_and_missing_clips_written(
    build: Build, tmp_path: Path
) -> None:
    source = build("lsmdc")
    next(source.root.glob("videos/1004_Juno/*")).unlink()
    done = check("lsmdc", "--root", str(source.root))
    assert set(rows(done)) == {"split", "train", "val", "test"}
    some = check("lsmdc", "--root", str(source.root), "--split", "val", "--split", "test",
                 "--missing-file", str(tmp_path / "gone"))  # fmt: skip
    assert set(rows(some)) == {"split", "val", "test"}
    assert (tmp_path / "gone").read_text().startswith("val\t1004_Juno")


@pytest.mark.shows("dataset check", "--videos", "--captions")
def test_videos_and_captions_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films/a.mp4").touch()
    (tmp_path / "list.csv").write_text("video,caption\na.mp4,one\nb.mp4,two\n")
    done = check("folder", "--root", str(tmp_path), "--videos", str(tmp_path / "films"),
                 "--captions", str(tmp_path / "list.csv"))  # fmt: skip
    assert rows(done)["all"][1:5] == ["2", "1", "1", "2"]  # annotated, found, missing, captions


@pytest.mark.shows("dataset check", "--strict")
def test_strict_is_not_content_with_what_is_incomplete(build: Build) -> None:
    source = build("lsmdc")
    assert check("lsmdc", "--root", str(source.root)).exit_code == 0
    strict = check("lsmdc", "--root", str(source.root), "--strict")
    assert isinstance(strict.exception, C4CError)
    assert "lsmdc is not as published" in str(strict.exception)


def test_a_reason_is_said_once_in_the_table_or_in_the_error(build: Build) -> None:
    source = build("msvd")
    (source.root / "val_list.txt").unlink()
    done = check("msvd", "--root", str(source.root))
    reason = "val_list.txt is not in"
    assert reason in done.stdout
    assert reason not in str(done.exception)
    for name in ("train_list.txt", "test_list.txt"):
        (source.root / name).unlink()
    done = check("msvd", "--root", str(source.root))
    assert done.stdout == ""  # nothing can be read: there is no table
    assert "train_list.txt is not in" in str(done.exception)


@pytest.mark.shows("dataset make shapes", "--root", "--seed", "--train", "--val", "--test")
@pytest.mark.shows("dataset make shapes-unseen", "--root", "--seed", "--train", "--val", "--test")
@pytest.mark.parametrize("name", ["shapes", "shapes-unseen"])
def test_shapes_are_made_as_asked_and_not_over_others(name: str, tmp_path: Path) -> None:
    def make(folder: str, *args: str) -> Result:
        root = str(tmp_path / folder)
        return CliRunner().invoke(group, ["dataset", "make", name, "--root", root, *args])

    few = ("--train", "3", "--val", "2", "--test", "4")
    assert make("one", *few, "--seed", "7").exit_code == 0
    lines = (tmp_path / "one/captions.jsonl").read_text().splitlines()
    splits = [json.loads(line)["split"] for line in lines]
    assert [splits.count(name) for name in ("train", "val", "test")] == [3, 2, 4]
    assert len(list((tmp_path / "one").rglob("*.mp4"))) == 9
    assert "already there" in make("one", *few, "--seed", "7").stderr
    assert "was not made with these settings" in str(make("one", *few).exception)
    assert make("two", *few, "--seed", "8").exit_code == 0
    assert (tmp_path / "two/captions.jsonl").read_text().splitlines() != lines
