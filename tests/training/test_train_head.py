"""Training heads on the cache: it learns, resumes bit for bit, and says what is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
import warm

from c4c.core.errors import C4CError
from c4c.heads import HEADS
from c4c.heads.checkpoint import load_checkpoint
from c4c.training.cached import train_head
from c4c.training.config import TrainHeadConfig
from c4c.training.journal import read_journal
from c4c.training.parallel import World


def config(cache: Path, out: Path, **changes: object) -> TrainHeadConfig:
    settings = {"head": "seqLSTM", "epochs": 2, "batch": 16, **changes}
    return TrainHeadConfig(cache=cache, out=out, **settings)  # type: ignore[arg-type]


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder).head.state_dict()


@pytest.mark.parametrize("head", list(HEADS))
def test_every_head_trains_and_its_loss_falls(
    head: str, shapes_cache: Path, tmp_path: Path
) -> None:
    result = train_head(config(shapes_cache, tmp_path / "run", head=head, epochs=3, batch=12))
    assert load_checkpoint(result.checkpoint).head.name == head
    assert 0 <= result.metrics["t2v_r1"] <= 100
    assert "twin_accuracy" in result.metrics
    if head != "meanP":
        losses = [row["loss"] for row in read_journal(tmp_path / "run/log.jsonl") if "epoch" in row]
        assert losses[-1] < losses[0]


def test_mean_pooling_says_that_there_is_nothing_to_train(
    shapes_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train_head(config(shapes_cache, tmp_path / "run", head="meanP"))
    assert "no parameters" in capsys.readouterr().err
    assert result.steps == 0
    # Twins show the same frames: a bag of frames cannot know which is which.
    assert result.metrics["twin_accuracy"] == pytest.approx(50, abs=25)


def test_the_same_seed_gives_the_same_head(shapes_cache: Path, tmp_path: Path) -> None:
    one = train_head(config(shapes_cache, tmp_path / "one", seed=3))
    two = train_head(config(shapes_cache, tmp_path / "two", seed=3))
    other = train_head(config(shapes_cache, tmp_path / "other", seed=4))
    first, second = parameters(one.last), parameters(two.last)
    assert all(torch.allclose(first[name], second[name], atol=1e-4) for name in first)
    third = parameters(other.last)
    assert not all(torch.allclose(first[name], third[name], atol=1e-4) for name in first)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    shapes_cache: Path, tmp_path: Path
) -> None:
    whole = train_head(config(shapes_cache, tmp_path / "whole", head="tightTransf", epochs=4))
    code = (
        "import os, signal\nfrom pathlib import Path\n"
        "from c4c.training import loop\n"
        "from c4c.training.cached import train_head\n"
        "from c4c.training.config import TrainHeadConfig\n"
        "step = loop.Run._step\n"
        "def stopping(self, epoch, place, journal):\n"
        "    if (epoch, place) == (1, 1): os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return step(self, epoch, place, journal)\n"
        "loop.Run._step = stopping\n"
        f"train_head(TrainHeadConfig(head='tightTransf', epochs=4, batch=16, "
        f"cache=Path({str(shapes_cache)!r}), out=Path({str(tmp_path / 'cut')!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "Requeue" in done.stderr
    assert "--resume auto" in done.stderr
    again = config(shapes_cache, tmp_path / "cut", head="tightTransf", epochs=4, resume="auto")
    resumed = train_head(again)
    assert resumed.steps == whole.steps
    # Every batch and every dropout mask is the same; products on several threads may round
    # otherwise in another process, so losses are compared and not bits.
    logs = [
        [row["loss"] for row in read_journal(tmp_path / run / "log.jsonl") if "epoch" not in row]
        for run in ("whole", "cut")
    ]
    assert logs[0] == pytest.approx(logs[1], rel=1e-3)


def test_resume_finds_the_checkpoint_that_a_killed_save_put_aside(
    shapes_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train_head(config(shapes_cache, tmp_path / "run"))
    whole.last.rename(whole.last.with_name(".last-former"))
    with pytest.raises(C4CError, match="holds a run already"):
        train_head(config(shapes_cache, tmp_path / "run"))
    resumed = train_head(config(shapes_cache, tmp_path / "run", resume="auto"))
    assert resumed.steps == whole.steps
    assert "going on from" in capsys.readouterr().err


def test_what_a_kill_left_of_a_replaced_checkpoint_goes_with_the_next_run(
    shapes_cache: Path, tmp_path: Path
) -> None:
    """Killed between the renames of the last save and its clearing."""
    whole = train_head(config(shapes_cache, tmp_path / "run"))
    shutil.copytree(whole.checkpoint, tmp_path / "run/.best-former")
    train_head(config(shapes_cache, tmp_path / "run", resume="auto"))
    assert not (tmp_path / "run/.best-former").exists()
    assert whole.checkpoint.is_dir()


def test_a_gradient_that_is_not_finite_stops_the_run_and_names_clips(
    shapes_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: World, parameters: Iterable[tuple[torch.nn.Parameter, float]]) -> None:
        for parameter, _ in parameters:
            if parameter.grad is not None:
                parameter.grad.fill_(float("nan"))

    monkeypatch.setattr(World, "reduce_gradients", spoil)
    with pytest.raises(C4CError, match=r"gradient is nan at step 0 \(clips .+\)"):
        train_head(config(shapes_cache, tmp_path / "run"))


def test_a_folder_with_a_run_is_not_overwritten_unasked(shapes_cache: Path, tmp_path: Path) -> None:
    train_head(config(shapes_cache, tmp_path / "run"))
    with pytest.raises(C4CError, match="--resume auto"):
        train_head(config(shapes_cache, tmp_path / "run"))
    with pytest.raises(C4CError, match="lr"):
        train_head(config(shapes_cache, tmp_path / "run", lr=7e-4, resume="auto"))
    train_head(config(shapes_cache, tmp_path / "run", lr=7e-4, overwrite=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_split": "nothing"}, "no split 'nothing'"),
        ({"eval_split": "nothing"}, "--eval-split nothing"),
        ({"batch": 0}, "--batch"),
        ({"lr": 0.0}, "--lr"),
        ({"head": "noHead"}, "Unknown head"),
        ({"resume": "missing"}, "--resume missing"),
    ],
)
def test_wrong_settings_are_one_line(
    changes: dict[str, object], words: str, shapes_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(C4CError, match=words):
        train_head(config(shapes_cache, tmp_path / "run", **changes))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_saves_and_says_how_to_go_on(
    number: signal.Signals, code: int, shapes_cache: Path, tmp_path: Path
) -> None:
    command = [*warm.C4C, "train-head", "--head", "seqTransf", "--epochs", "4000"]
    command += ["--cache", str(shapes_cache), "--out", str(tmp_path / "run"), "--batch", "16"]
    process = warm.Started(command)
    log = tmp_path / "run" / "log.jsonl"
    begun = time.monotonic()
    while time.monotonic() - begun < 120 and len(read_journal(log)) < 3:
        time.sleep(0.2)
    os.kill(process.pid, number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == code
    assert "--resume auto" in words
    assert "Traceback" not in words
    held = json.loads((tmp_path / "run/last/checkpoint.json").read_text())
    assert held["position"]["step"] >= 1


def test_event_files_hold_what_the_log_holds(shapes_cache: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train_head(config(shapes_cache, tmp_path / "run", tensorboard=True))
    found = events.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    rows = read_journal(tmp_path / "run" / "log.jsonl")
    losses = [event.value for event in found.Scalars("loss")]
    assert losses == pytest.approx([row["loss"] for row in rows], rel=1e-5)
    recalls = [event.value for event in found.Scalars("t2v_r1")]
    assert recalls == pytest.approx([row["t2v_r1"] for row in rows if "t2v_r1" in row])
    steps = [event.step for event in found.Scalars("grad_norm")]
    assert steps == [row["step"] for row in rows if "grad_norm" in row]
