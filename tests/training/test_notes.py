"""Figures of a training carry the notes that an evaluation of the same split would."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.core.config import DatasetSource
from c4c.extract.datasets import load_dataset
from c4c.retrieval.session import RetrieveConfig, run_evaluate
from c4c.training.evaluation import answer_notes, answers
from c4c.training.journal import read_journal

LACKS = "not comparable: 2 of 8 clips are not in the gallery (1 without video, 1 failed)"
LEFT_OUT = "1 captions left out: their clips have no features"
CHOSEN = "the best epoch was chosen on this very split (val): figures are optimistic"


@pytest.fixture(scope="module")
def incomplete(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes of whose val split one video is gone and one is none."""
    here = tmp_path_factory.mktemp("incomplete")
    shutil.copytree(shapes_root, here / "shapes")
    val = load_dataset(DatasetSource("shapes", here / "shapes"), "val")
    Path(val.clips[2].path).unlink()
    Path(val.clips[5].path).write_bytes(b"no video")
    args = ["extract", *dataset(here), "--cache", str(here / "cache"), "--backbone", "tiny"]
    for split in ("train", "val", "test"):
        args += ["--split", split]
    done = CliRunner().invoke(group, [*args, "--workers", "1"])
    assert done.exit_code == 3
    return here


def dataset(here: Path) -> list[str]:
    """The videos as a folder of somebody's own: shapes themselves would be made anew."""
    own = here / "shapes"
    return [
        "--dataset", "folder", "--root", str(own / "videos"),
        "--captions", str(own / "captions.jsonl"),
    ]  # fmt: skip


def train(here: Path, command: str, out: Path, *options: str) -> tuple[dict[str, object], str]:
    """The line on stdout, and what was said."""
    args = [command, "--head", "seqLSTM", "--epochs", "2", "--batch", "16", "--out", str(out)]
    if command == "train-head":
        args += ["--cache", str(here / "cache")]
    else:
        args += [*dataset(here), "--backbone", "tiny", "--workers", "1"]
        args += ["--frame-cache", str(here / "frames")]
    done = CliRunner().invoke(group, [*args, *options], catch_exceptions=False)
    assert done.exit_code == 0
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("command", ["train-head", "train-e2e"])
def test_an_incomplete_gallery_is_said_beside_every_figure(
    command: str, incomplete: Path, tmp_path: Path
) -> None:
    line, words = train(incomplete, command, tmp_path)
    assert line["notes"] == [LACKS, LEFT_OUT, CHOSEN]
    figures = [row for row in words.splitlines() if "t2v_r1" in row]
    assert len(figures) == 2
    assert all(LACKS in row for row in figures)
    assert f"note: {LACKS}" in words
    rows = [row for row in read_journal(tmp_path / "log.jsonl") if "t2v_r1" in row]
    assert all(row["notes"] == [LACKS, LEFT_OUT] for row in rows)
    held = json.loads((tmp_path / "best/checkpoint.json").read_text())
    assert held["notes"] == [LACKS, LEFT_OUT]


def test_an_evaluation_of_the_same_split_says_the_same(incomplete: Path, tmp_path: Path) -> None:
    line, _ = train(incomplete, "train-head", tmp_path)
    asked = RetrieveConfig(cache=incomplete / "cache", checkpoint=tmp_path / "best", split="val")
    assert list(run_evaluate(asked).notes) == line["notes"]


def test_mean_pooling_which_is_only_evaluated_says_it_too(incomplete: Path, tmp_path: Path) -> None:
    line, _ = train(incomplete, "train-head", tmp_path, "--head", "meanP")
    assert line["notes"] == [LACKS, LEFT_OUT]


def test_a_whole_split_that_is_not_trained_on_has_no_note(
    shapes_cache: Path, tmp_path: Path
) -> None:
    line, words = train(
        tmp_path, "train-head", tmp_path / "run", "--cache", str(shapes_cache), "--eval-split",
        "test",
    )  # fmt: skip
    assert line["notes"] == [CHOSEN.replace("val", "test")]
    assert "not comparable" not in words


def test_several_captions_of_a_clip_are_said() -> None:
    right = answers(["a", "b"], ["a", "a", "b", "gone"], {})
    found = answer_notes(right, expected=3, missing=1, failed=0)
    assert [note[:20] for note in found] == [
        "not comparable: 1 of", "1 captions left out:", "several captions a c",
    ]  # fmt: skip
    assert answer_notes(answers(["a", "b"], ["a", "b"], {}), 2, 0, 0) == []
