"""Two runs in one folder: the second is refused in a line, and the first one's result is whole."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import warm

from c4c.core.errors import C4CError
from c4c.core.lock import FILE
from c4c.heads.checkpoint import load_checkpoint
from c4c.study.config import StudyConfig
from c4c.study.run import run_study
from c4c.training.cached import train_head
from c4c.training.config import TrainE2EConfig, TrainHeadConfig
from c4c.training.e2e import train_e2e
from c4c.training.journal import read_journal

GRID = 'question = "?"\n[settings]\nhead = "seqTransf"\nepochs = {epochs}\nbatch = 16\n[grid]\n'


class First:
    """A run that holds its folder, stopped in the middle of its work."""

    def __init__(self, args: list[str], lock: Path) -> None:
        self.process = warm.Started([*warm.C4C, *args], env={**os.environ, "OMP_NUM_THREADS": "1"})
        limit = time.monotonic() + 100
        while not lock.exists() or not lock.read_text():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.02)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=100)
        return self.process.returncode, out, err


@pytest.fixture
def first() -> Iterator[Any]:
    begun: list[First] = []

    def begin(args: list[str], lock: Path) -> First:
        begun.append(First(args, lock))
        return begun[-1]

    yield begin
    for one in begun:
        one.process.kill()
        one.process.communicate()


def head_args(cache: Path, out: Path, *more: str) -> list[str]:
    args = ["train-head", "--head", "seqTransf", "--cache", str(cache), "--out", str(out)]
    return [*args, "--batch", "16", *more]


def test_a_second_training_is_refused_and_the_first_is_whole(
    first: Any, shapes_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    one = first(head_args(shapes_cache, out, "--epochs", "4000", "--seed", "1"), out / FILE)
    args = head_args(shapes_cache, out, "--epochs", "1", "--seed", "2", "--overwrite")
    done = warm.run([*warm.C4C, *args], timeout=100)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"process {one.process.pid} on" in done.stderr
    limit = time.monotonic() + 100
    while not read_journal(out / "log.jsonl"):  # before its first step it just ends
        assert time.monotonic() < limit
        time.sleep(0.02)
    one.process.send_signal(signal.SIGTERM)
    assert one.end()[0] == 75
    assert load_checkpoint(out / "last").meta["config"]["seed"] == 1
    assert not (out / FILE).exists()


def test_end_to_end_training_of_the_same_folder_is_refused_before_any_work(
    first: Any, shapes_cache: Path, shapes_root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    one = first(head_args(shapes_cache, out, "--epochs", "4000"), out / FILE)
    config = TrainE2EConfig(head="meanP", dataset="shapes", root=shapes_root, backbone="tiny",
                            out=out, frame_cache=tmp_path / "frames")  # fmt: skip
    with pytest.raises(C4CError, match=f"process {one.process.pid} on"):
        train_e2e(config)
    assert not (tmp_path / "frames").exists()


def test_a_run_that_was_killed_is_gone_on_with(
    first: Any, shapes_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    one = first(head_args(shapes_cache, out, "--epochs", "4000"), out / FILE)
    one.process.kill()
    one.end()
    assert (out / FILE).exists()
    config = TrainHeadConfig(head="seqTransf", cache=shapes_cache, out=out, epochs=1, batch=16,
                             overwrite=True)  # fmt: skip
    assert train_head(config).steps == 3
    assert sorted(path.name for path in out.iterdir()) == ["best", "last", "log.jsonl"]


def study(tmp_path: Path, root: Path, cache: Path, epochs: int) -> list[str]:
    grid = GRID.format(epochs=epochs) + "max_frames = [4, 5]\n"
    (tmp_path / "grid.toml").write_text(grid)
    data = ["--dataset", "shapes", "--root", str(root), "--cache", str(cache)]
    return ["study", str(tmp_path / "grid.toml"), *data, "--out", str(tmp_path / "study")]


def settings(tmp_path: Path, root: Path, cache: Path, **more: Any) -> StudyConfig:
    out, name = tmp_path / "study", str(tmp_path / "grid.toml")
    return StudyConfig(name=name, datasets=("shapes",), root=root, cache=cache, out=out, **more)


def test_a_second_study_is_refused_at_the_run_that_the_first_is_at(
    first: Any, shapes_root: Path, shapes_cache: Path, tmp_path: Path
) -> None:
    args = study(tmp_path, shapes_root, shapes_cache, 4000)
    one = first(args, tmp_path / "study" / FILE)
    limit = time.monotonic() + 100
    while not list((tmp_path / "study").glob(f"runs/*/train/{FILE}")):
        assert time.monotonic() < limit
        time.sleep(0.02)
    with pytest.raises(C4CError, match=f"Another run writes .*process {one.process.pid} on"):
        run_study(settings(tmp_path, shapes_root, shapes_cache))


def test_parts_of_a_study_at_once_make_one_whole_table(
    first: Any, shapes_root: Path, shapes_cache: Path, tmp_path: Path
) -> None:
    args = study(tmp_path, shapes_root, shapes_cache, 1)
    part = first([*args, "--slice", "0/2"], tmp_path / "study" / FILE)
    run_study(settings(tmp_path, shapes_root, shapes_cache, part=(1, 2)))
    code, _, words = part.end()
    assert code == 0, words
    rows = (tmp_path / "study" / "runs.jsonl").read_text().splitlines()
    assert [json.loads(row)["max_frames"] for row in rows] == [4, 5]
    assert not list((tmp_path / "study").rglob(FILE))


def test_two_runs_share_one_decoding_into_a_frame_cache(
    first: Any, shapes_root: Path, tmp_path: Path
) -> None:
    """The second waits for the first, or goes on where it was killed."""
    args = ["train-e2e", "--head", "meanP", "--epochs", "1", "--batch", "16", "--dataset", "shapes"]
    args += ["--root", str(shapes_root), "--backbone", "tiny", "--workers", "1", "--eval-split"]
    args += ["none", "--frame-cache", str(tmp_path / "frames"), "--out", str(tmp_path / "run0")]
    run = first(args, tmp_path / "run0" / FILE)
    train_e2e(
        TrainE2EConfig(head="meanP", epochs=1, batch=16, dataset="shapes", root=shapes_root,
                       backbone="tiny", workers=1, eval_split="none", out=tmp_path / "run1",
                       frame_cache=tmp_path / "frames", coef_lr=1e-3)
    )  # fmt: skip
    code, _, words = run.end()
    assert code == 0, words
    (made,) = (tmp_path / "frames").iterdir()
    assert (made / "frames.bin").exists()
    assert not list((tmp_path / "frames").rglob(FILE))
