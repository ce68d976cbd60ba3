"""A container's CPU quota counts, whichever version of control groups it is in."""

import os
from pathlib import Path

import pytest

from c4c.core.cores import cores

HERE = len(os.sched_getaffinity(0))


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_a_quota_it_is_the_cores_that_may_be_used(tmp_path: Path) -> None:
    own = write(tmp_path / "own", "0::/job\n")
    write(tmp_path / "job/cpu.max", "max 100000\n")
    assert cores(tmp_path, own) == cores(tmp_path / "none", tmp_path / "none/own") == HERE


@pytest.mark.parametrize(
    ("quota", "expected"), [("100000", 1), ("50000", 1), (f"{100000 * 4096}", HERE)]
)
def test_a_quota_is_so_many_cores_rounded_up(quota: str, expected: int, tmp_path: Path) -> None:
    own = write(tmp_path / "own", "0::/docker/job\n")
    write(tmp_path / "docker/job/cpu.max", f"{quota} 100000\n")
    assert cores(tmp_path, own) == expected


def test_the_quota_of_a_group_above_holds_and_so_does_one_of_version_1(tmp_path: Path) -> None:
    own = write(tmp_path / "own", "0::/docker/job\n")
    write(tmp_path / "docker/job/cpu.max", "max 100000\n")
    write(tmp_path / "docker/cpu.max", "90000 100000\n")
    assert cores(tmp_path, own) == 1
    old = tmp_path / "old"
    own = write(old / "own", "5:cpu,cpuacct:/box\n3:memory:/elsewhere\n")
    write(old / "cpu/box/cpu.cfs_quota_us", "100000\n")
    write(old / "cpu/box/cpu.cfs_period_us", "100000\n")
    assert cores(old, own) == 1
    write(old / "cpu/box/cpu.cfs_quota_us", "-1\n")
    assert cores(old, own) == HERE
