"""Every evaluation says what of its clips was trained on, whatever names they have by then."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from c4c.cache.seen import FILE
from c4c.cli.app import COMMANDS
from c4c.core.errors import C4CError
from c4c.core.records import Overlap
from c4c.extract.config import ExtractConfig
from c4c.extract.pipeline import run_extract
from c4c.heads.checkpoint import load_checkpoint
from c4c.retrieval.evaluate import Evaluation
from c4c.retrieval.session import RetrieveConfig, run_evaluate
from c4c.training.cached import train_head
from c4c.training.config import TrainE2EConfig, TrainHeadConfig
from c4c.training.e2e import train_e2e

N = 6


@pytest.fixture(scope="module")
def root(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos, their copies and links under other names, six others and six more."""
    here = tmp_path_factory.mktemp("leaks") / "data"
    here.mkdir()
    videos = sorted(shapes_root.rglob("*.mp4"))
    lines = ["video,caption,split,id"]
    for place in range(3 * N):
        kind = ("train", "test", "more")[place // N]
        name = f"{kind}{place % N}"
        shutil.copy(videos[place], here / f"{name}.mp4")
        lines.append(f"{name}.mp4,clip number {place},{kind},{name}")
        if kind == "train":
            shutil.copy(videos[place], here / f"copy{place}.mp4")
            (here / f"link{place}.mp4").symlink_to(here / f"{name}.mp4")
            lines += [f"copy{place}.mp4,a copy {place},copies,copy{place}"]
            lines += [f"link{place}.mp4,a link {place},links,link{place}"]
    (here / "captions.csv").write_text("\n".join(lines))
    return here


def extract(root: Path, cache: Path, *splits: str, **changes: Any) -> Path:
    config = ExtractConfig(
        dataset="folder", root=root, captions=root / "captions.csv", cache=cache,
        splits=splits, backbone="tiny", max_frames=2, workers=1, **changes,
    )  # fmt: skip
    run_extract(config)
    return cache


@pytest.fixture(scope="module")
def cache(root: Path) -> Path:
    return extract(root, root.parent / "cache", "train", "test", "more", "copies", "links")


def train(cache: Path, out: Path, split: str = "train", **changes: Any) -> Path:
    settings: dict[str, Any] = {"head": "seqLSTM", "epochs": 1, "batch": 3, "max_frames": 2}
    settings |= {"eval_split": "none", "device": "cpu", **changes}
    return train_head(
        TrainHeadConfig(cache=cache, out=out, train_split=split, **settings)
    ).checkpoint


@pytest.fixture(scope="module")
def head(cache: Path) -> Path:
    return train(cache, cache.parent / "head")


def evaluated(cache: Path, checkpoint: Path | None, split: str) -> Evaluation:
    return run_evaluate(
        RetrieveConfig(cache=cache, checkpoint=checkpoint, split=split, device="cpu")
    )


def trained_on(cache: Path, checkpoint: Path | None, split: str) -> Overlap:
    found = evaluated(cache, checkpoint, split)
    assert found.leak is not None
    assert found.leak.evaluated == N
    said = [note for note in found.notes if note.startswith("leak:")]
    assert bool(said) == bool(found.leak.trained.clips)
    return found.leak.trained


def test_a_clip_that_was_trained_on_is_found_by_id_file_or_content(cache: Path, head: Path) -> None:
    assert trained_on(cache, head, "train") == Overlap(N, N, N, N, "train0")
    assert trained_on(cache, head, "copies") == Overlap(N, 0, 0, N, "copy0")
    assert trained_on(cache, head, "links") == Overlap(N, 0, N, N, "link0")
    assert trained_on(cache, head, "test") == Overlap()
    assert trained_on(cache, None, "train") == Overlap()  # nothing was trained at all


def test_mean_pooling_of_frozen_features_has_trained_on_nothing(
    cache: Path, tmp_path: Path
) -> None:
    checkpoint = train(cache, tmp_path / "mean", head="meanP")
    assert trained_on(cache, checkpoint, "train") == Overlap()


def test_what_a_head_started_from_counts(cache: Path, head: Path, tmp_path: Path) -> None:
    second = train(cache, tmp_path / "second", "more", init_head=head)
    assert trained_on(cache, second, "more").clips == N
    assert trained_on(cache, second, "copies").clips == N
    assert trained_on(cache, second, "test").clips == 0


def test_a_resumed_run_remembers_clips_that_have_left_the_split(
    root: Path, cache: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(cache, tmp_path / "cache")
    train(own, tmp_path / "run", "more")
    lines = (root / "captions.csv").read_text().splitlines()
    (tmp_path / "fewer.csv").write_text(
        "\n".join(line for line in lines if "more0" not in line and "more1" not in line)
    )
    run_extract(
        ExtractConfig(
            dataset="folder",
            root=root,
            captions=tmp_path / "fewer.csv",
            cache=own,
            splits=("more",),
            backbone="tiny",
            max_frames=2,
            workers=1,
        )  # fmt: skip
    )
    resumed = train(own, tmp_path / "run", "more", resume="auto")
    assert trained_on(cache, resumed.parent / "last", "more").clips == N


def test_a_backbone_takes_its_record_into_the_caches_it_makes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = train_e2e(
        TrainE2EConfig(
            head="meanP",
            dataset="folder",
            root=root,
            captions=root / "captions.csv",
            backbone="tiny",
            frame_cache=tmp_path / "frames",
            out=tmp_path / "e2e",
            epochs=1,
            batch=3,
            max_frames=2,
            workers=1,
            eval_split="links",
            device="cpu",
        )  # fmt: skip
    ).checkpoint
    assert f"leak: {N} clips of 'links' are trained on" in capsys.readouterr().err
    assert load_checkpoint(checkpoint).meta["metrics"]["leaked_clips"] == N
    cache = extract(root, tmp_path / "cache", "copies", "test", "more", pretrained=str(checkpoint))
    assert trained_on(cache, None, "copies") == Overlap(N, 0, 0, N, "copy0")
    assert trained_on(cache, None, "test") == Overlap()
    found = evaluated(cache, None, "copies")
    assert found.leak is not None
    assert found.leak.chosen.by_content == N  # links to the same videos chose the best epoch
    assert any("best epoch was chosen on 6 of 6 evaluated clips" in note for note in found.notes)
    above = train(cache, tmp_path / "above", "more")
    assert trained_on(cache, above, "copies").clips == N
    again = train_e2e(
        TrainE2EConfig(
            head="meanP",
            dataset="folder",
            root=root,
            captions=root / "captions.csv",
            train_split="more",
            pretrained=str(checkpoint),
            backbone="tiny",
            frame_cache=tmp_path / "frames",
            out=tmp_path / "again",
            epochs=1,
            batch=3,
            max_frames=2,
            workers=1,
            eval_split="none",
            device="cpu",
        )  # fmt: skip
    ).checkpoint
    over = extract(root, tmp_path / "over", "test", "copies", pretrained=str(again))
    assert trained_on(over, again, "copies").clips == N
    assert trained_on(over, again, "test").clips == 0


def test_of_a_checkpoint_without_a_record_the_settings_tell_or_nobody_knows(
    root: Path, cache: Path, head: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(head, tmp_path / "old")
    (old / FILE).unlink()
    assert trained_on(cache, old, "copies").clips == N  # the cache has the split it was trained on
    assert evaluated(cache, old, "test").notes == ()
    elsewhere = extract(root, tmp_path / "elsewhere", "test")
    (note,) = evaluated(elsewhere, old, "test").notes
    assert note.startswith("it is not known whether evaluated clips were trained on")
    later = train(cache, tmp_path / "later", "more", init_head=old)
    found = evaluated(cache, later, "test")
    assert found.leak is not None
    assert str(old) in found.leak.unknown


def test_a_run_says_what_leaks_into_the_split_it_is_evaluated_on(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = train(cache, tmp_path / "run", eval_split="copies")
    assert f"leak: {N} clips of 'copies' are trained on" in capsys.readouterr().err
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [row["leaked_clips"] for row in log if "t2v_r1" in row] == [N]
    found = evaluated(cache, checkpoint, "links")
    assert any("best epoch was chosen on" in note for note in found.notes)


def test_results_and_comparisons_say_it_too(cache: Path, head: Path, tmp_path: Path) -> None:
    def run(command: str, *args: object) -> str:
        done = CliRunner().invoke(COMMANDS[command], [*map(str, args)], catch_exceptions=False)
        assert done.exit_code == 0
        return done.stdout

    common = ("--evaluate", "--cache", cache, "--split", "copies", "--device", "cpu")
    table = run("retrieve", *common, "--checkpoint", head, "--json", tmp_path / "b.json")
    assert f"note: leak: {N} of {N} evaluated clips were trained on" in table
    exports = ("--trec", tmp_path / "out", "--similarity", tmp_path / "sim.npy")
    run("retrieve", *common, "--json", tmp_path / "a.json", *exports)
    assert np.load(tmp_path / "sim.npy").shape == (N, N)
    assert len((tmp_path / "out.t2v.run").read_text().splitlines()) == N * N
    kept = json.loads((tmp_path / "b.json").read_text())["leak"]
    assert kept["trained"] == {
        "clips": N, "by_id": 0, "by_file": 0, "by_content": N, "first": "copy0",
    }  # fmt: skip
    assert (kept["evaluated"], kept["unknown"], kept["chosen"]["clips"]) == (N, "", 0)
    page = tmp_path / "page.html"
    told = run("compare", tmp_path / "a.json", tmp_path / "b.json", "--html", page)
    assert f"note: B: leak: {N} of {N}" in told
    assert "note: A:" not in told
    assert f"B: leak: {N} of {N}" in page.read_text()


def test_the_bank_of_qbnorm_is_the_split_that_was_trained_on(cache: Path, tmp_path: Path) -> None:
    checkpoint = train(cache, tmp_path / "more", "more")

    def figures(**changes: Any) -> dict[str, Any]:
        config = RetrieveConfig(
            cache=cache,
            checkpoint=checkpoint,
            split="test",
            device="cpu",
            rerank="qbnorm",
            **changes,
        )
        return run_evaluate(config).as_dict()["queries"]

    assert figures() == figures(bank="more")
    with pytest.raises(C4CError, match="now 'more'"):
        run_evaluate(
            RetrieveConfig(
                cache=cache, checkpoint=checkpoint, split="more", device="cpu", rerank="qbnorm"
            )
        )
