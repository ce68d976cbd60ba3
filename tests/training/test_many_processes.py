"""Training under torchrun: the numbers of one process, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from c4c.core.config import DatasetSource
from c4c.core.records import FeatureBatch
from c4c.extract.backbone.load import load_backbone
from c4c.extract.datasets import load_dataset
from c4c.heads.checkpoint import load_checkpoint
from c4c.training.cached import start_head, train_head
from c4c.training.config import TrainE2EConfig, TrainHeadConfig
from c4c.training.e2e import E2ETask, train_e2e
from c4c.training.journal import read_journal
from c4c.training.losses import symmetric_cross_entropy
from c4c.training.optim import Optimizer
from c4c.training.split_frames import split_frames

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def torchrun(*arguments: str) -> None:
    command = [*LAUNCH, "-m", "c4c", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count('"steps"') == 1  # one process speaks


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    held = load_checkpoint(folder)
    return {**(held.backbone_state or {}), **held.head.state_dict()}


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


def test_processes_that_would_get_no_pair_are_named(shapes_cache: Path, tmp_path: Path) -> None:
    options = ["--cache", str(shapes_cache), "--out", str(tmp_path / "run"), "--batch", "2"]
    command = [*LAUNCH[:-1], "3", "-m", "c4c", "train-head", "--head", "seqLSTM", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "3 processes cannot share a batch of 2 clips; pass a larger --batch" in done.stderr
    assert "ValueError" not in done.stderr


@pytest.mark.parametrize("head", ["seqTransf", "tightTransf"])
def test_end_to_end_in_two_processes_is_the_run_of_one(
    head: str, shapes_root: Path, tmp_path: Path
) -> None:
    """Some steps of head and backbone: uneven parts, micro-batches where masks allow it."""
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
            epochs=4,
            batch=15,
            coef_lr=0.01,
            layers=1,
            eval_split="none",
        )
    )
    assert one.steps >= 12
    run = tmp_path / "two"
    options = ["--head", head, "--dataset", "shapes", "--root", str(shapes_root)]
    options += ["--backbone", "tiny", "--frame-cache", str(tmp_path / "frames"), "--out", str(run)]
    options += ["--workers", "1", "--epochs", "4", "--batch", "15", "--coef-lr", "0.01"]
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


def task_of(settings: TrainE2EConfig, root: Path) -> E2ETask:
    backbone = load_backbone("tiny", precision="float32")
    dataset = load_dataset(DatasetSource("shapes", root), "train")
    store = split_frames(settings, dataset, backbone)
    head = start_head(settings, backbone.embed_dim, backbone.head_init())
    return E2ETask(settings, backbone, head, (dataset, store))


def encoded(task: E2ETask, rows: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    inputs = task.load(rows, torch.Generator().manual_seed(0))
    return *task.encode(inputs, 0, len(inputs.lengths)), inputs.lengths


def authors_gradients(task: E2ETask, parts: list[object], draws: list[torch.Tensor]) -> None:
    """What their code leaves in every parameter, from the words of the paper and its traps."""
    named = [*task.head.parameters(), *task.backbone.model.parameters()]
    if not task.head.loose:  # each process: a loss of its own; then the mean
        for number, rows in enumerate(parts):
            torch.set_rng_state(draws[number])
            frames, texts, lengths = encoded(task, rows)
            loss = symmetric_cross_entropy(task.head(FeatureBatch(frames, lengths), texts))
            (loss / len(parts)).backward()
            draws[number] = torch.get_rng_state()
        return
    held = [encoded(task, rows) for rows in parts]
    frames, texts, lengths = (torch.cat(one) for one in zip(*held, strict=True))
    symmetric_cross_entropy(task.head(FeatureBatch(frames, lengths), texts)).backward()
    for parameter in named:  # gathering gives back a slice, and the mean divides it again
        if parameter.grad is not None and parameter is not task.head.logit_scale:
            parameter.grad /= len(parts)


@pytest.mark.parametrize("head", ["seqTransf", "tightTransf"])
def test_two_processes_share_a_batch_as_the_authors_do(
    head: str, shapes_root: Path, tmp_path: Path
) -> None:
    given = {"head": head, "epochs": 2, "batch": 12, "layers": 1, "lr": 1e-3, "coef_lr": 0.1}
    settings = TrainE2EConfig(
        dataset="shapes",
        root=shapes_root,
        backbone="tiny",
        frame_cache=tmp_path / "frames",
        workers=1,
        recipe="authors",
        eval_split="none",
        **given,  # type: ignore[arg-type]
    )
    task = task_of(settings, shapes_root)
    task.train_mode(True)
    batches = [batch for epoch in range(2) for batch in task.batches(epoch)]
    optimizer = Optimizer(task.modules(), settings, len(batches))
    torch.manual_seed(settings.seed)
    start_head(settings, 128, task.backbone.head_init())  # the draws of a run before its first step
    draws = [torch.get_rng_state()] * 2
    for step, batch in enumerate(batches):
        authors_gradients(task, [batch[:6], batch[6:]], draws)
        optimizer.step(step)
    options = ["--dataset", "shapes", "--root", str(shapes_root), "--backbone", "tiny"]
    options += ["--frame-cache", str(tmp_path / "frames"), "--out", str(tmp_path / "run")]
    options += ["--workers", "1", "--recipe", "authors", "--eval-split", "none"]
    for name, value in given.items():
        options += [f"--{name.replace('_', '-')}", str(value)]
    torchrun("train-e2e", *options)
    own = parameters(tmp_path / "run" / "last")
    wanted = {**task.backbone.model.state_dict(), **task.head.state_dict()}
    worst = {name: float((own[name] - wanted[name]).abs().max()) for name in own}
    assert max(worst.values()) < 1e-5, sorted(worst.items(), key=lambda pair: -pair[1])[:5]


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
