"""Training under torchrun: the numbers of one process, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from c4c.heads.checkpoint import load_checkpoint
from c4c.training.cached import train_head
from c4c.training.config import TrainE2EConfig, TrainHeadConfig
from c4c.training.e2e import train_e2e
from c4c.training.journal import read_journal

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def torchrun(*arguments: str) -> None:
    command = [*LAUNCH, "-m", "c4c", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count('"steps"') == 1  # one process speaks


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    held = load_checkpoint(folder)
    return {**held.head.state_dict(), **(held.backbone_state or {})}


def steps(out: Path) -> list[int]:
    return [row["step"] for row in read_journal(out / "log.jsonl")]


def test_two_processes_save_by_time_and_keep_one_log(shapes_cache: Path, tmp_path: Path) -> None:
    settings = {"epochs": 8, "batch": 16, "checkpoint_minutes": 0.001}
    one = train_head(
        TrainHeadConfig(head="seqLSTM", cache=shapes_cache, out=tmp_path / "one", **settings)  # type: ignore[arg-type]
    )
    options = ["--head", "seqLSTM", "--cache", str(shapes_cache), "--out", str(tmp_path / "run")]
    options += ["--epochs", "8", "--batch", "16", "--checkpoint-minutes", "0.001"]
    torchrun("train-head", *options)
    first, second = parameters(one.last), parameters(tmp_path / "run" / "last")
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert steps(tmp_path / "one") == steps(tmp_path / "run")


@pytest.mark.parametrize("head", ["seqTransf", "tightTransf"])
def test_end_to_end_in_two_processes_is_the_run_of_one(
    head: str, shapes_root: Path, tmp_path: Path
) -> None:
    """Twenty steps of head and backbone: uneven parts, micro-batches where masks allow it."""
    out = tmp_path / "one"
    one = train_e2e(
        TrainE2EConfig(
            head=head,
            dataset="shapes",
            root=shapes_root,
            backbone="tiny",
            frame_cache=tmp_path / "frames",
            out=out,
            workers=1,
            epochs=7,
            batch=15,
            coef_lr=0.01,
            layers=1,
            eval_split="none",
        )
    )
    assert one.steps >= 20
    run = tmp_path / "two"
    options = ["--head", head, "--dataset", "shapes", "--root", str(shapes_root)]
    options += ["--backbone", "tiny", "--frame-cache", str(tmp_path / "frames"), "--out", str(run)]
    options += ["--workers", "1", "--epochs", "7", "--batch", "15", "--coef-lr", "0.01"]
    options += ["--layers", "1", "--eval-split", "none"]
    if head != "tightTransf":  # its dropout masks go by block of the similarity matrix
        options += ["--micro-batch", "4"]
    torchrun("train-e2e", *options)
    logs = [read_journal(folder / "log.jsonl") for folder in (out, run)]
    assert [row["step"] for row in logs[0]] == [row["step"] for row in logs[1]]
    losses = [[row["loss"] for row in log] for log in logs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    # Adam makes whole steps of gradients that are next to nothing but rounding, as those of
    # tightTransf are at first; its parameters agree only where there is something to learn.
    first, second = parameters(one.last), parameters(run / "last")
    worst = {name: float((first[name] - second[name]).abs().max()) for name in first}
    compared = [value for name, value in worst.items() if head != "tightTransf" or "." in name]
    bound = 1e-5 if head != "tightTransf" else 5e-5
    assert max(compared) < bound, sorted(worst.items(), key=lambda pair: -pair[1])[:5]


def children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in found]


def test_a_killed_process_ends_the_others_within_a_minute(
    shapes_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [*LAUNCH, "-m", "c4c", "train-head", "--head", "seqTransf", "--epochs", "4000"]
    command += ["--cache", str(shapes_cache), "--out", str(out), "--batch", "16"]
    with (tmp_path / "words").open("w+") as words:
        process = subprocess.Popen(command, stdout=words, stderr=words, text=True)
        begun = time.monotonic()
        while len(read_journal(out / "log.jsonl")) < 3 and process.poll() is None:
            assert time.monotonic() - begun < 120
            time.sleep(0.2)
        ranks = children(process.pid)
        assert len(ranks) == 2
        os.kill(ranks[1], signal.SIGKILL)
        assert process.wait(60) != 0
        assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
        words.seek(0)
        said = words.read()
    own = [line for line in said.splitlines() if line.startswith("c4c: ")]
    assert all("ended" in line or "stopped by SIGTERM" in line for line in own), own
    assert 'File "' not in "".join(line for line in said.splitlines() if "/c4c/" in line)
