"""Study zero-shot: backbones as they are, side by side, and beside what is published."""

import json
import tomllib
from importlib.resources import files
from pathlib import Path

import open_clip
import pytest
from click.testing import CliRunner

from c4c.cache.open import Cache
from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.retrieval.session import RetrieveConfig, run_evaluate


def study(*words: str) -> str:
    command = ["study", "zero-shot", "--dataset", "shapes", *words]
    done = CliRunner().invoke(group, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_backbones_are_evaluated_untrained_each_in_its_own_cache(
    tmp_path: Path, shapes_root: Path, shapes_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = ("--root", str(shapes_root), "--workers", "1", "--device", "cpu")
    told = study(*root, "--backbone", "tiny", "--backbone", "tiny:shipped")
    assert "backbone tiny:shipped" in told
    runs = [json.loads(path.read_text()) for path in tmp_path.rglob("runs/*/result.json")]
    assert len(runs) == 4 and not list(tmp_path.rglob("train"))
    for run in runs:
        config = RetrieveConfig(
            cache=shapes_cache, split="test", max_frames=run["variant"]["max_frames"], device="cpu"
        )
        metrics = run_evaluate(config).as_dict()["metrics"]
        assert run["evaluation"]["metrics"]["t2v"]["r1"] == metrics["t2v"]["r1"]
    for name in ("shapes-tiny", "shapes-tiny-shipped"):
        assert Cache.open(tmp_path / "c4c-cache" / name).splits == ("test",)
    study(*root, "--backbone", "tiny")  # its runs are done, whatever ran beside them
    done = set(tmp_path.rglob("runs/*/result.json"))
    assert len(done) == 4
    study(*root, "--backbone", "tiny", "--set", "average=before")
    (few, _) = sorted(
        (json.loads(path.read_text()) for path in set(tmp_path.rglob("runs/*/result.json")) - done),
        key=lambda run: run["variant"]["max_frames"],
    )
    assert few["settings"]["average"] == "before"
    config = RetrieveConfig(cache=shapes_cache, split="test", max_frames=8, device="cpu")
    assert few["evaluation"]["metrics"] == run_evaluate(config, "before").as_dict()["metrics"]


def test_backbones_that_a_study_cannot_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    several = ("--backbone", "tiny", "--backbone", "ViT-B-32")
    with pytest.raises(C4CError, match="pass NAME:TAG each"):
        study(*several, "--pretrained", "none")
    with pytest.raises(C4CError, match="trains no head"):
        study("--set", "head=seqTransf")
    with pytest.raises(C4CError, match="average is 'never'. Known: after, before"):
        study("--set", "average=never")
    with pytest.raises(C4CError, match="--set epochs: .* trains nothing"):
        study("--set", "epochs=2")
    command = ["study", "heads", "--dataset", "shapes", *several]
    with pytest.raises(C4CError, match="takes one --backbone"):
        CliRunner().invoke(group, command, catch_exceptions=False)


def test_published_figures_name_a_backbone_of_open_clip_its_frames_and_their_source() -> None:
    text = (files("c4c.study") / "published.toml").read_text("utf-8")
    figures = [one for one in tomllib.loads(text)["figures"] if one["study"] == "zero-shot"]
    assert len(figures) == 16
    for figure in figures:
        assert figure["variant"]["backbone"] in open_clip.list_models()
        assert f"{figure['variant']['max_frames']} frames" in figure["note"]
