"""A study extracts what its runs train on, choose by and report, in the division that fits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from c4c.cache.open import Cache
from c4c.cli.app import COMMANDS
from c4c.core.errors import C4CError
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.study.config import StudyConfig
from c4c.study.data import needed_splits, splits_of
from c4c.study.plan import Run, plan_runs
from c4c.study.spec import make_study


def run(dataset: str, **settings: Any) -> Run:
    return Run(dataset, {}, {"head": "meanP", **settings}, 0)


@pytest.mark.parametrize(
    ("train", "select_on", "expected", "told"),
    [
        ("train", "auto", ("train", None, "test"), "auto"),
        ("train", "val", ("train", "val", "test"), "val"),
        ("train", "test", ("train", "test", "test"), "test"),
        ("train-8.5k", "auto", ("train-8.5k", "val", "test"), "auto"),
        ("train-8.5k", "none", ("train-8.5k", None, "test"), "none"),
        ("train-7k", "auto", ("train-7k", None, "test"), "auto"),
        ("train-full", "auto", ("train-full", "val-full", "test-full"), "val-full"),
    ],
)
def test_the_splits_of_a_run_are_of_one_division(
    train: str, select_on: str, expected: tuple[str | None, ...], told: str, tmp_path: Path
) -> None:
    config = StudyConfig(name="x", datasets=("msrvtt",), root=tmp_path, select_on=select_on)
    found = splits_of(config, run("msrvtt", train_split=train))
    assert (found.train, found.select, found.report) == expected
    assert found.eval_split == told


def test_runs_that_train_on_other_splits_share_one_extraction(tmp_path: Path) -> None:
    table = {"grid": {"train_split": ["train", "train-8.5k"]}, "settings": {"head": "meanP"}}
    config = StudyConfig(name="mine", datasets=("msrvtt",), root=tmp_path)
    runs = plan_runs(make_study("mine", table), config)
    assert needed_splits(config, "msrvtt", runs) == ("train", "test", "train-8.5k", "val")


def test_a_split_that_does_not_exist_is_one_line_before_any_work(tmp_path: Path) -> None:
    for name, words, changes in (
        ("msrvtt", "no split 'train-9k' for a study. It has train, test, train-8.5k", {}),
        ("msrvtt", "--select-on dev: msrvtt has no such split", {"select_on": "dev"}),
        ("howto100m", "neither test nor val beside 'train'", {}),
    ):
        config = StudyConfig(name="x", datasets=(name,), root=tmp_path, **changes)
        settings = {} if changes or name == "howto100m" else {"train_split": "train-9k"}
        with pytest.raises(C4CError, match=words):
            splits_of(config, run(name, **settings))


@pytest.fixture(scope="module")
def msrvtt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MSR-VTT's layout with a dozen little videos: 6 for training alone, 3 in val, 3 in test."""
    root = tmp_path_factory.mktemp("msrvtt") / "data"
    (root / "videos").mkdir(parents=True)
    make_shapes(root.parent / "shapes", Recipe(seed=5, train=12, val=0, test=0))
    names = [f"video{number}" for number in range(12)]
    for name, video in zip(names, sorted(root.parent.rglob("shapes/**/*.mp4")), strict=True):
        shutil.copy(video, root / "videos" / f"{name}.mp4")
    split = ["train"] * 6 + ["validate"] * 3 + ["test"] * 3
    data = {
        "videos": [{"video_id": n, "split": s} for n, s in zip(names, split, strict=True)],
        "sentences": [{"video_id": n, "caption": f"{w} {n}"} for n in names for w in ("a", "b")],
    }
    (root / "MSRVTT_data.json").write_text(json.dumps(data))
    (root / "MSRVTT_train.9k.csv").write_text("\n".join(["video_id", *names[:9]]))
    rows = [f"r,m,{name},the only one of {name}" for name in names[9:]]
    (root / "MSRVTT_JSFUSION_test.csv").write_text(
        "\n".join(["key,vid_key,video_id,sentence", *rows])
    )
    return root


def study(root: Path, *args: str) -> tuple[list[dict[str, Any]], str]:
    """Rows of the runs, and what was said."""
    common = ["sampling", "--dataset", "msrvtt", "--root", str(root), "--backbone", "tiny"]
    common += ["--workers", "1", "--set", "head=seqLSTM", "--set", "epochs=1", "--set", "batch=4"]
    done = CliRunner().invoke(COMMANDS["study"], [*common, *args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    lines = Path("c4c-studies/sampling/runs.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], done.stderr


def test_the_documented_protocol_runs_from_nothing(
    msrvtt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, told = study(msrvtt, "--set", "train_split=train-8.5k")
    found = {(row["chosen_on"], row["split"], row["gallery"]) for row in rows}
    assert found == {("val", "test", 3)}
    splits = set(Cache.open(tmp_path / "c4c-cache/msrvtt").splits)
    assert splits == {"train-8.5k", "val", "test"}
    report = Path("c4c-studies/sampling/report.md").read_text()
    assert "leak" not in report + told
    assert "optimistic" not in report


def test_choosing_on_clips_that_are_trained_on_is_said(
    msrvtt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, told = study(msrvtt, "--select-on", "val")
    assert {row["chosen_on"] for row in rows} == {"val"}
    assert "leak: 3 clips of 'val' are trained on" in told
