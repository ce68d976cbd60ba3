"""``c4c dataset check``: one table of all splits, whatever is wrong with some."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.extract.datasets.check import check_dataset, write_missing

Build = Callable[[str], DatasetSource]


def row(table: str, split: str) -> list[str]:
    return next(line.split() for line in table.splitlines() if line.split()[0] == split)


def check(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "c4c", "dataset", "check", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_table_has_expected_found_missing_and_repeated(build: Build) -> None:
    source = build("msvd")
    (source.root / "YouTubeClips/mv89psg6zh4_33_46.avi").unlink()
    report = check_dataset(source)
    assert row(report.table(), "train") == ["train", "1200", "1", "1", "0", "2", "48774", "0"]
    assert row(report.table(), "test") == ["test", "670", "1", "0", "1", "2", "27763", "0"]
    activity = build("activitynet")
    table = check_dataset(activity).table()
    assert row(table, "train") == ["train", "10009", "2", "2", "0", "2", "10009", "1"]


def test_annotations_can_be_checked_before_the_videos_are_there(build: Build) -> None:
    source = build("msvd")
    shutil.rmtree(source.root / "YouTubeClips")
    table = check_dataset(source).table()
    assert row(table, "train") == ["train", "1200", "1", "0", "1", "2", "48774", "0"]


def test_an_absent_file_ends_neither_the_check_nor_its_table(build: Build) -> None:
    source = build("msvd")
    (source.root / "val_list.txt").unlink()
    report = check_dataset(source)
    assert [one.split for one in report.datasets] == ["train", "test"]
    assert "val: cannot be read: msvd: val_list.txt is not in" in report.table()
    assert report.problem(strict=False) == "msvd: val cannot be read; the table says why."
    assert check_dataset(source, ("train",)).problem(strict=False) is None


def test_a_division_that_nobody_asked_for_may_be_absent(build: Build) -> None:
    source = build("msrvtt")
    (source.root / "msrvtt_data/MSRVTT_train.7k.csv").unlink()
    assert check_dataset(source).problem(strict=False) is None
    words = check_dataset(source, ("train-7k", "test")).problem(strict=False)
    assert words == "msrvtt: train-7k cannot be read; the table says why."


def test_nothing_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(C4CError, match=r"train_list.txt is not in .*\(from --root\)"):
        check_dataset(DatasetSource("msvd", tmp_path))
    with pytest.raises(C4CError, match="msvd has no split 'dev'"):
        check_dataset(DatasetSource("msvd", tmp_path), ("dev",))


def test_leaks_are_seen_on_annotated_clips_without_video(place, build: Build) -> None:
    source = build("msvd")
    for split in ("train", "test"):
        place.put(f"{split}_list.txt", "gone_1_2\n")
    place.put("raw-captions.json", {"gone_1_2": ["x"], "_O9kWD8nuRU_45_49": ["y"]})
    table = check_dataset(source).table()
    assert "train and test share 1 clips (first 'gone_1_2')" in table
    assert "val" not in table.split("share")[0].splitlines()[-1]


def test_leaks_are_seen_on_stretches_and_links_of_one_video(place) -> None:
    place.videos("a.mp4", "b.mp4")
    (place.root / "c.mp4").symlink_to(place.root / "b.mp4")
    lines = ["video,caption,split,start,end", "a,x,train,0,1", "a,y,test,2,3"]
    lines += ["b,z,train,,", "c,w,test,,", "gone,x,train,0,1", "gone,x,test,2,3"]
    place.put("c.csv", "\n".join(lines))
    report = check_dataset(place.source("folder", "c.csv"))
    assert [one.split for one in report.datasets] == ["train", "test"]
    assert "train and test share 3 clips" in report.table()


def test_splits_that_contain_each_other_by_design_are_no_leak(build: Build, place) -> None:
    source = build("msrvtt")
    assert "share" not in check_dataset(source).table()  # train, train-7k and train-full overlap
    listed = "msrvtt_data/MSRVTT_train.9k.csv"
    place.put(listed, (place.root / listed).read_text() + "video9770\n")
    table = check_dataset(source).table()
    assert "train and test share 1 clips (first 'video9770')" in table
    assert "train-8.5k and test share 1 clips" in table


def test_missing_clips_are_named_in_a_file(build: Build, tmp_path: Path) -> None:
    source = build("msvd")
    (source.root / "YouTubeClips/mv89psg6zh4_33_46.avi").unlink()
    write_missing(check_dataset(source), tmp_path / "deep/missing.txt")
    assert (tmp_path / "deep/missing.txt").read_text() == "test\tmv89psg6zh4_33_46\n"


def test_strict_prints_the_table_writes_the_file_and_exits_2(build: Build, tmp_path: Path) -> None:
    source = build("lsmdc")
    next(source.root.glob("videos/1004_Juno/*")).unlink()
    options = ["lsmdc", "--root", str(source.root), "--missing-file", str(tmp_path / "m")]
    done = check(*options)
    assert (done.returncode, done.stderr) == (0, "")
    strict = check(*options, "--strict")
    assert strict.returncode == 2
    assert strict.stdout == done.stdout
    assert row(strict.stdout, "test")[:4] == ["test", "1000", "1", "1"]
    assert len(strict.stderr.splitlines()) == 1
    assert "1 videos missing" in strict.stderr
    assert (tmp_path / "m").read_text() == "val\t1004_Juno_00.00.32.801-00.00.37.522\n"


def test_a_root_whose_name_is_not_utf8_is_printed_all_the_same(
    build: Build, tmp_path: Path
) -> None:
    source = build("msvd")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    odd.mkdir()
    for path in list(source.root.iterdir()):
        if path != odd and path.name != "val_list.txt":
            path.rename(odd / path.name)
    done = check("msvd", "--root", str(odd))
    assert done.returncode == 2
    assert "val: cannot be read" in done.stdout
    assert len(done.stderr.splitlines()) == 1


def test_strict_is_content_with_a_whole_folder_and_not_with_a_leak(place) -> None:
    place.videos("a.mp4", "b.mp4")
    place.put("good.csv", "clip,caption,split\na,x,train\nb,y,test\n")
    place.put("leak.csv", "clip,caption,split\na,x,train\na,y,test\n")
    assert check_dataset(place.source("folder", "good.csv")).problem(strict=True) is None
    report = check_dataset(place.source("folder", "leak.csv"))
    assert report.problem(strict=True) == "folder: splits share clips, as the table says."
    assert "share 1 clips" in report.table()
