"""What the options of both trainings do to data, frames, checkpoints and devices."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_runs import STILL, Run, Train, both, distance, run_into
from torch import Tensor

from c4c.cli.app import group
from c4c.core import presets
from c4c.core.errors import C4CError
from c4c.heads.checkpoint import load_checkpoint
from c4c.training import cached, e2e, loop
from c4c.training.task import Task


@both
@pytest.mark.shows("train-head", "--max-frames", "--sampling", "--order")
@pytest.mark.shows("train-e2e", "--max-frames", "--sampling", "--order")
@pytest.mark.parametrize(
    ("sampling", "order", "wanted"),
    [
        ("head", "ordinary", [0, 1, 2]),
        ("tail", "ordinary", [5, 6, 7]),
        ("uniform", "reverse", [7, 3, 0]),
    ],
)
def test_frames_are_chosen_and_ordered(
    command: str, sampling: str, order: str, wanted: list[int], train: Train, usual: dict[str, Run]
) -> None:
    run = train(command, "--max-frames", "3", "--sampling", sampling, "--order", order)
    for name, whole in usual[command].seen.frames.items():
        assert len(whole) == 8
        assert torch.equal(run.seen.frames[name], whole[wanted]), name


@both
@pytest.mark.shows("train-head", "--eval-split", "--eval-order")
@pytest.mark.shows("train-e2e", "--eval-split", "--eval-order")
def test_the_evaluated_split_and_the_order_in_which_it_is_seen(
    command: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Tensor] = []
    kind = cached.CachedTask if command == "train-head" else e2e.E2ETask
    blocks = kind._blocks

    def watched(self: Any, *args: Any) -> Iterator[Any]:
        for batch in blocks(self, *args):
            shown.append(batch.features.clone())
            yield batch

    monkeypatch.setattr(kind, "_blocks", watched)
    plain, turned = (
        train(command, *STILL, "--eval-split", "test", "--eval-order", order)
        for order in ("ordinary", "reverse")
    )
    assert plain.meta["chosen_on"] == "test"
    assert "t2v_r1" in plain.line and "twin_accuracy" in plain.line
    assert shown[0].shape[:2] == (8, 8)
    torch.testing.assert_close(shown[1], shown[0].flip(1), rtol=1e-4, atol=1e-4)
    assert turned.meta["config"]["eval_order"] == "reverse"


@pytest.fixture(scope="module")
def twice(shapes_root: Path, tmp_path_factory: Any) -> tuple[Path, list[str]]:
    """Six videos in a folder of one's own with two captions each; its cache, and its options."""
    here = tmp_path_factory.mktemp("twice")
    videos = sorted((shapes_root / "videos").rglob("val-*.mp4"))[:6]
    lines = ["video,caption,split"]
    lines += [f"{path.name},{text} {path.stem},own" for path in videos for text in ("a", "the")]
    (here / "list.csv").write_text("\n".join(lines) + "\n")
    args = ["--dataset", "manifest", "--root", str(here), "--videos", str(videos[0].parent)]
    args += ["--captions", str(here / "list.csv")]
    command = ["extract", *args, "--cache", str(here / "cache"), "--split", "own"]
    command += ["--backbone", "tiny", "--workers", "1"]
    assert CliRunner().invoke(group, command).exit_code == 0
    return here / "cache", args


@both
@pytest.mark.shows("train-head", "--clip-captions", "--cache")
@pytest.mark.shows("train-e2e", "--clip-captions", "--dataset", "--root", "--videos", "--captions")
@pytest.mark.shows("train-e2e", "--frame-cache")
def test_captions_of_somebodys_own_are_trained_on_all_or_one_a_clip(
    command: str, train: Train, twice: tuple[Path, list[str]], tmp_path: Path
) -> None:
    cache, data = twice
    own = ["--cache", str(cache)] if command == "train-head" else data
    if command == "train-e2e":
        own = [*own, "--frame-cache", str(tmp_path / "decoded")]
    own = [*own, "--train-split", "own", "--batch", "3"]
    every, one = (train(command, *own, "--clip-captions", which) for which in ("all", "one"))
    assert sum(map(len, every.seen.ids)) == 12
    assert sorted(name for names in one.seen.ids for name in names) == sorted(one.seen.frames)
    assert len(one.seen.frames) == 6
    if command == "train-e2e":
        assert len(list((tmp_path / "decoded").glob("own-*"))) == 1


@both
@pytest.mark.shows("train-head", "--head", "--layers", "--out")
@pytest.mark.shows("train-e2e", "--head", "--layers", "--out")
def test_a_head_of_so_many_layers_is_kept_where_asked(
    command: str, train: Train, usual: dict[str, Run]
) -> None:
    run = train(command, "--head", "tightTransf", "--layers", "2")
    held = load_checkpoint(run.out / "best").head
    assert (held.name, held.layers) == ("tightTransf", 2)
    assert run.line["checkpoint"] == str(run.out / "best")
    own = load_checkpoint(usual[command].out / "best").head
    assert (own.name, own.layers) == ("seqTransf", 1)


@both
@pytest.mark.shows("train-head", "--init-head")
@pytest.mark.shows("train-e2e", "--init-head")
def test_a_run_begins_with_the_head_it_is_given(
    command: str, train: Train, usual: dict[str, Run], still: dict[str, Run]
) -> None:
    run = train(command, *STILL, "--init-head", str(usual[command].out / "last"))
    assert distance(run.head, usual[command].head) < 1e-9
    assert distance(run.head, still[command].head) > 1e-5


@both
@pytest.mark.shows("train-head", "--resume", "--overwrite", "--device")
@pytest.mark.shows("train-e2e", "--resume", "--overwrite")
def test_a_folder_that_holds_a_run_is_gone_on_with_or_begun_anew(
    command: str, places: dict[str, list[str]], tmp_path: Path
) -> None:
    run_into(tmp_path, places, command)
    with pytest.raises(Exception, match="--resume auto to go on"):
        run_into(tmp_path, places, command)
    # The same device under another name is no other setting.
    again = run_into(tmp_path, places, command, "--resume", "auto", "--device", "cpu:0")
    assert "going on from" in again.words
    assert again.seen.ids == []
    with pytest.raises(Exception, match="trained with lr"):
        run_into(tmp_path, places, command, "--resume", "auto", "--lr", "0.5")
    anew = run_into(tmp_path, places, command, "--overwrite", "--lr", "2e-4")
    assert anew.line["steps"] == 2
    assert len(anew.rows) == 2


@both
@pytest.mark.shows("train-head", "--checkpoint-minutes", "--tensorboard")
@pytest.mark.shows("train-e2e", "--checkpoint-minutes", "--tensorboard")
def test_checkpoints_are_saved_as_often_as_asked_and_event_files_written(
    command: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    save = loop.Run._save

    def saving(self: loop.Run, name: str) -> None:
        saved.append(name)
        save(self, name)

    monkeypatch.setattr(loop.Run, "_save", saving)
    train(command, "--checkpoint-minutes", "0")
    assert saved == ["last", "best"]
    pytest.importorskip("tensorboard")
    saved.clear()
    run = train(command, "--checkpoint-minutes", "1e-9", "--tensorboard")
    assert saved == ["last", "last", "last", "best"]  # after each of two steps, and the epoch
    assert list((run.out / "tensorboard").iterdir())


@both
@pytest.mark.shows("train-head", "--device")
@pytest.mark.shows("train-e2e", "--device")
def test_a_device_that_is_named_counts_more_than_a_gpu_that_seems_there(
    command: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(Exception):
        """Says on which device a run would be."""

    def begin(task: Task, *_: Any) -> None:
        raise Begun(str(task.device))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module in (cached, e2e):
        monkeypatch.setattr(module, "Run", begin)
    with pytest.raises(Begun, match="cpu"):
        train(command)  # with --device cpu, as all of these
    with pytest.raises(C4CError, match="--device cuda:77 cannot be used"):
        train(command, "--device", "cuda:77")


@both
@pytest.mark.shows("train-head", "--preset")
@pytest.mark.shows("train-e2e", "--preset")
def test_a_preset_fills_what_was_not_given(
    command: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {command: {"max_frames": 2, "batch": 8}}
    monkeypatch.setattr(presets, "load_presets", lambda: {"mine": {"any": own, "shapes": {}}})
    run = train(command, "--preset", "mine")
    assert {len(rows) for rows in run.seen.frames.values()} == {2}
    assert [len(names) for names in run.seen.ids] == [4, 4]  # --batch 4 was given


def test_the_usual_run_has_eight_clips_once(usual: dict[str, Run]) -> None:
    """What the tests above compare with."""
    for run in usual.values():
        assert sorted(np.concatenate(run.seen.ids)) == sorted(run.seen.frames)
        assert len(run.seen.frames) == 8
        assert run.line["steps"] == 2
