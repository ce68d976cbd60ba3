"""The loop in memory: what a step is made of, which epoch is the best, and what is kept."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from c4c.core.errors import C4CError
from c4c.core.files import read_json
from c4c.core.records import FeatureBatch
from c4c.heads.checkpoint import load_checkpoint
from c4c.training.journal import read_journal
from c4c.training.loop import Run
from c4c.training.losses import symmetric_cross_entropy
from c4c.training.optim import Optimizer
from c4c.training.parallel import World

TaskMaker = Callable[..., Any]


def trained(task: Any, out: Path, chosen_on: str | None = None) -> Any:
    meta = {"config": task.config.numbers(), "chosen_on": chosen_on}
    return Run(task, out, World(), meta).train()


def by_hand(task: Any) -> list[float]:
    """Steps whose gradient is the mean of those of the batches that make the step."""
    size, losses = task.config.accumulate, []
    plan = [task.batches(epoch) for epoch in range(task.config.epochs)]
    groups = [own[low : low + size] for own in plan for low in range(0, len(own), size)]
    optimizer = Optimizer(task.modules(), task.config, len(groups))
    task.train_mode(True)
    for step, group in enumerate(groups):
        total = torch.zeros(())
        for batch in group:
            clips, texts = task.inputs(batch)
            total = total + symmetric_cross_entropy(task.head(clips, texts)) / len(group)
        total.backward()
        optimizer.step(step)
        losses.append(total.item())
    return losses


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_step_is_the_mean_of_the_batches_that_it_accumulates(
    accumulate: int, feature_task: TaskMaker, tmp_path: Path
) -> None:
    """Four batches an epoch: with three a step, the second step has one, and it counts whole."""
    settings = {"accumulate": accumulate, "lr": 0.01, "epochs": 2}
    task, other = feature_task(**settings), feature_task(**settings)
    result = trained(task, tmp_path / "run")
    losses = by_hand(other)
    assert result.steps == len(losses) == 2 * math.ceil(4 / accumulate)
    log = read_journal(tmp_path / "run" / "log.jsonl")
    assert [row["loss"] for row in log if "epoch" not in row] == pytest.approx(losses, rel=1e-5)
    per_epoch = len(losses) // 2
    means = [sum(losses[n * per_epoch : (n + 1) * per_epoch]) / per_epoch for n in (0, 1)]
    assert [row["loss"] for row in log if "epoch" in row] == pytest.approx(means, rel=1e-5)
    for (name, mine), theirs in zip(
        task.head.named_parameters(), other.head.parameters(), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_frames_are_drawn_anew_for_every_batch_by_the_seed(
    feature_task: TaskMaker, tmp_path: Path
) -> None:
    draws = []
    for number, seed in enumerate((0, 0, 1)):
        task = feature_task(seed=seed, accumulate=3, epochs=3)
        trained(task, tmp_path / str(number))
        assert len(set(task.draws)) == len(task.draws) == 12
        draws.append(task.draws)
    assert draws[0] == draws[1]
    assert not set(draws[0]) & set(draws[2])


def figures(*scores: float) -> list[dict[str, float]]:
    """Evaluations whose sum over both directions is a score; each direction alone misleads."""
    return [{"t2v_r1": 60 - 1.5 * one, "v2t_r1": 2.5 * one - 60} for one in scores]


def test_the_best_epoch_is_the_first_with_the_highest_recall_of_both_directions(
    feature_task: TaskMaker, tmp_path: Path
) -> None:
    found = figures(10, 30, 30, 20)
    task = feature_task(epochs=4, figures=found)
    result = trained(task, tmp_path / "run", "val")
    assert result.metrics == found[1]
    assert read_json(result.checkpoint / "checkpoint.json")["metrics"] == found[1]
    assert read_json(result.checkpoint / "checkpoint.json")["position"]["epoch"] == 2
    assert read_json(result.last / "checkpoint.json")["position"]["epoch"] == 4
    best, last = (load_checkpoint(one) for one in (result.checkpoint, result.last))
    assert best.state is None
    assert last.state is not None
    assert torch.equal(last.head.logit_scale, task.head.logit_scale)
    assert not torch.equal(best.head.logit_scale, last.head.logit_scale)
    # As after two epochs of the same run.
    rows = [row for row in read_journal(tmp_path / "run" / "log.jsonl") if "epoch" in row]
    assert [(row["epoch"], row["t2v_r1"]) for row in rows] == [
        (number + 1, one["t2v_r1"]) for number, one in enumerate(found)
    ]


def test_without_an_evaluation_the_last_is_the_best(
    feature_task: TaskMaker, tmp_path: Path
) -> None:
    result = trained(feature_task(), tmp_path / "run")
    assert result.metrics == {}
    best, last = (load_checkpoint(one).head for one in (result.checkpoint, result.last))
    assert torch.equal(best.logit_scale, last.logit_scale)


@pytest.mark.parametrize("cut", [3, 6])
def test_a_run_saved_in_mid_epoch_goes_on_to_the_same_end(
    cut: int, feature_task: TaskMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters, moments, dropout, place in the epoch, its loss and the best so far."""
    settings = {"head": "tightTransf", "epochs": 2, "figures": figures(10, 5), "lr": 0.01}
    whole = trained(feature_task(**settings), tmp_path / "whole", "val")

    class Stop(Exception):
        pass

    step = Run._step

    def stopping(self: Run, epoch: int, place: int, journal: Any) -> float:
        if self.at.step == cut:
            journal.flush()
            self._save("last")
            raise Stop
        return step(self, epoch, place, journal)

    monkeypatch.setattr(Run, "_step", stopping)
    with pytest.raises(Stop):
        trained(feature_task(**settings), tmp_path / "cut", "val")
    monkeypatch.undo()
    torch.rand(5)  # whatever was drawn since
    left = figures(10, 5) if cut < 4 else figures(5)
    again = feature_task(**{**settings, "figures": left}, resume="auto")
    result = trained(again, tmp_path / "cut", "val")
    assert (result.steps, result.metrics) == (whole.steps, whole.metrics)
    logs = [read_journal(tmp_path / run / "log.jsonl") for run in ("whole", "cut")]
    told = [[(row["step"], row.get("epoch"), row["loss"]) for row in log] for log in logs]
    assert told[0] == told[1]
    ends = [load_checkpoint(run.last).head.state_dict() for run in (whole, result)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_checkpoint_without_a_state_is_not_gone_on_from(
    feature_task: TaskMaker, tmp_path: Path
) -> None:
    result = trained(feature_task(figures=figures(1, 0)), tmp_path / "run", "val")
    with pytest.raises(C4CError, match="it can only be --init-head"):
        trained(feature_task(resume=str(result.checkpoint)), tmp_path / "other")
    with pytest.raises(C4CError, match="--resume .*nowhere: there is no checkpoint"):
        trained(feature_task(resume=str(tmp_path / "nowhere")), tmp_path / "other")
    # A folder named outright is gone on from too.
    assert trained(feature_task(resume=str(result.last)), tmp_path / "more").steps == 8


def test_another_seed_or_rate_is_refused_and_another_place_to_save_is_not(
    feature_task: TaskMaker, tmp_path: Path
) -> None:
    trained(feature_task(), tmp_path / "run")
    for key, value in (("seed", 4), ("lr", 0.5), ("accumulate", 2), ("batch", 4)):
        with pytest.raises(C4CError, match=f"was trained with {key} .*, now {value}"):
            trained(feature_task(resume="auto", **{key: value}), tmp_path / "run")
    assert trained(feature_task(resume="auto", checkpoint_minutes=3.0), tmp_path / "run").steps == 8


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step_and_clips(
    feature_task: TaskMaker, tmp_path: Path
) -> None:
    task = feature_task()
    where = int(task.batches(0)[2][1])
    task._texts[where] = math.inf
    with pytest.raises(C4CError, match=r"loss is nan at step 2 \(clips clip.*c4c cache verify"):
        trained(task, tmp_path / "run")
    assert not (tmp_path / "run" / "last").exists()


def test_the_scale_of_the_logits_stays_at_a_hundred_at_most(
    feature_task: TaskMaker, tmp_path: Path
) -> None:
    task = feature_task(head="meanP", lr=1e-6)
    task.head.logit_scale.data.fill_(math.log(150))
    trained(task, tmp_path / "run")
    assert task.head.logit_scale.item() == pytest.approx(math.log(100), abs=1e-4)


def test_a_step_is_in_training_mode_and_an_evaluation_leaves_it(
    feature_task: TaskMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = feature_task(head="tightTransf", epochs=2)
    seen: list[str] = []
    similarity = task.similarity

    def noting(batch: FeatureBatch, text: torch.Tensor) -> torch.Tensor:
        seen.append("train" if task.head.training else "eval")
        return similarity(batch, text)

    def evaluating() -> dict[str, float]:
        task.train_mode(False)
        return {}

    monkeypatch.setattr(task, "similarity", noting)
    monkeypatch.setattr(task, "evaluate", evaluating)
    trained(task, tmp_path / "run", "val")
    assert seen == ["train"] * 8


@pytest.mark.parametrize(("minutes", "places"), [
    (1e-9, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0)]),
    (600.0, [(1, 0), (2, 0)]),
    (0.0, [(1, 0), (2, 0)]),
])  # fmt: skip
def test_a_run_is_saved_after_every_epoch_and_when_it_is_time(
    minutes: float,
    places: list[tuple[int, int]],
    feature_task: TaskMaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """(epoch, batch) of every save, and the log tells as much when it is made."""
    task = feature_task(checkpoint_minutes=minutes)
    saved: list[tuple[int, int]] = []
    save = task.save

    def noting(folder: Path, meta: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
        if folder.name == "last":
            saved.append((meta["position"]["epoch"], meta["position"]["batch"]))
            assert len(read_journal(tmp_path / "run" / "log.jsonl")) >= meta["position"]["step"]
        save(folder, meta, state)

    monkeypatch.setattr(task, "save", noting)
    trained(task, tmp_path / "run")
    assert saved == places
