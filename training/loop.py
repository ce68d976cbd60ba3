"""The one training loop: epochs of batches, steps, checkpoints, and going on after a stop."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from c4c.cache.seen import Seen
from c4c.core.errors import C4CError
from c4c.core.files import remove_temporary
from c4c.core.progress import Progress, say
from c4c.core.schema import Range, parse
from c4c.core.signals import StopRequest
from c4c.heads.checkpoint import INFO, load_checkpoint, standing, sweep
from c4c.retrieval.notes import SEVERAL, chosen_note
from c4c.training.batches import Indices
from c4c.training.config import TrainConfig
from c4c.training.evaluation import score
from c4c.training.gradients import (
    accumulate_gradients,
    gradient_shares,
    random_state,
    restore_random,
)
from c4c.training.journal import Journal
from c4c.training.optim import Optimizer, clamp_logit_scale
from c4c.training.parallel import World
from c4c.training.result import TrainResult
from c4c.training.task import Task

# What the line of an epoch shows.
_SHOWN = {"loss": ".3f", "t2v_r1": ".1f", "v2t_r1": ".1f", "twin_accuracy": ".1f"}


@dataclass
class Position:
    """Where a run stands; kept with the last checkpoint."""

    epoch: Annotated[int, Range(0)] = 0
    batch: Annotated[int, Range(0)] = 0
    step: Annotated[int, Range(0)] = 0
    loss: float = 0.0  # summed over the batches of this epoch
    best: float | None = None  # nothing was evaluated yet
    best_figures: dict[str, float] = field(default_factory=dict)


@dataclass
class _Held:
    """What a run needs of its last checkpoint's description."""

    position: Position


class Run:
    """One training run.

    Args:
        task: head, encoder and data.
        out: the run folder.
        world: the processes that share the run.
        meta: what checkpoints say of themselves.
    """

    def __init__(self, task: Task, out: Path, world: World, meta: dict[str, Any]) -> None:
        self.task, self.out, self.world, self.meta = task, out, world, meta
        self.config: TrainConfig = task.config
        self.plan = [self._groups(epoch) for epoch in range(self.config.epochs)]
        self.optimizer = Optimizer(task.modules(), self.config, sum(map(len, self.plan)))
        self.at = Position()
        self._saved = time.monotonic()
        batches = itertools.chain.from_iterable(itertools.chain.from_iterable(self.plan))
        sizes = {len(batch) // self.config.pairs for batch in batches}
        if world.size > 1 and min(sizes, default=0) < world.size:
            raise C4CError(
                f"{world.size} processes cannot share a batch of {min(sizes, default=0)} "
                "clips; pass a larger --batch, or start fewer processes."
            )
        if sizes == {1}:
            say(
                "every batch holds one clip, and a loss that compares clips with each other learns "
                "nothing from that; pass a larger --batch, or more captioned clips"
            )

    def _groups(self, epoch: int) -> list[list[Indices]]:
        """Batches of an epoch, as many together as are accumulated into a step."""
        batches = self.task.batches(epoch)
        size = self.config.accumulate
        return [batches[first : first + size] for first in range(0, len(batches), size)]

    def train(self) -> TrainResult:
        """Train to the end.

        Raises:
            Interrupted: SIGINT or SIGTERM, after the state was saved.
            C4CError: the loss is not finite, or nothing can be written.
        """
        self._begin()
        leads = self.world.leads
        log = self.out / "log.jsonl" if leads else None
        journal = Journal(log, self.at.step, self.at.epoch, self.config.tensorboard)
        try:
            with StopRequest() as stop:
                trained, chosen = self.config.init_head is not None, self.meta["chosen_on"]
                if trained and chosen and not self.at.step:
                    self._judge(journal, "start", {})
                for epoch in range(self.at.epoch, self.config.epochs):
                    self._epoch(epoch, journal, stop)
        finally:
            journal.close()
        if leads and not (self.out / "best").exists():
            self._save("best")
        self.world.barrier()
        figures, chosen = self.at.best_figures, self.meta["chosen_on"]
        notes = [*self.task.notes, *([chosen_note(chosen)] if figures else [])]
        return TrainResult(
            self.out / "best", self.out / "last", figures, self.at.step, tuple(notes)
        )

    def _epoch(self, epoch: int, journal: Journal, stop: StopRequest) -> None:
        groups = self.plan[epoch]
        begun = time.monotonic()
        self.task.train_mode(True)
        self.task.expect([self._own(b) for group in groups[self.at.batch :] for b in group])
        label = f"epoch {epoch + 1}/{self.config.epochs}"
        with Progress(label, len(groups), "steps", self.at.batch) as progress:
            for place in range(self.at.batch, len(groups)):
                loss = self._step(epoch, place, journal)
                self.at.batch, self.at.loss = place + 1, self.at.loss + loss
                progress.step(extra=f"loss {loss:.3f}")
                self._pause(stop, journal)
        mean = self.at.loss / len(groups)
        self.at.epoch, self.at.batch, self.at.loss = epoch + 1, 0, 0.0
        self._judge(journal, label, {"loss": mean, "seconds": time.monotonic() - begun})

    def _judge(self, journal: Journal, label: str, told: dict[str, float]) -> None:
        """Evaluate and keep what there is now: after an epoch, or a trained head at the start.

        So a run that goes on from a trained head keeps it unless an epoch does better.
        """
        found = self.task.measure() if self.world.leads else {}
        self.world.await_leader()
        told |= found
        noted = {"notes": list(self.task.notes)} if self.task.notes else {}
        journal.write({"step": self.at.step, "epoch": self.at.epoch, **told, **noted})
        journal.flush()
        self._keep(found)
        words = [f"{name} {told[name]:{form}}" for name, form in _SHOWN.items() if name in told]
        # How a clip's captions are counted is said once, at the end; what is wrong, every time.
        warnings = [f"({note})" for note in self.task.notes if found and note != SEVERAL]
        if self.world.leads:
            say(f"{label}: {' '.join([*words, *warnings])}")

    def _own(self, batch: Indices) -> Indices:
        """This process's part of a batch; pairs that belong together stay so."""
        pairs = self.config.pairs
        part = self.world.part(len(batch) // pairs)
        return batch[part.start * pairs : part.stop * pairs]

    def _step(self, epoch: int, place: int, journal: Journal) -> float:
        group = self.plan[epoch][place]
        total = 0.0
        for number, batch in enumerate(group):
            own = self._own(batch)
            mixed = (self.config.seed * 1_000_003 + epoch) * 1_000_003 + place * 1009 + number
            generator = torch.Generator().manual_seed(mixed % 2**63)  # more is no seed of torch
            inputs = self.task.load(own, generator)
            weight = 1 / len(group)
            loss = accumulate_gradients(
                self.task, inputs, self.config.micro_batch, self.world, weight
            )
            total += float(loss) * weight
        self._require_finite("loss", total, group)
        share = gradient_shares(self.task.head, self.optimizer.recipe, self.world.size)
        self.world.reduce_gradients((one, share(one)) for one in self.optimizer.parameters)
        figures = self.optimizer.step(self.at.step)
        self._require_finite("norm of the gradient", figures["grad_norm"], group)
        clamp_logit_scale(self.task.head.logit_scale)
        self.at.step += 1
        journal.write({"step": self.at.step, "loss": total, **figures})
        return total

    def _require_finite(self, what: str, value: float, group: list[Indices]) -> None:
        """Stop at the step that went wrong, before anything is written.

        Raises:
            C4CError: ``value`` is not finite; it names the step and the clips.
        """
        if not math.isfinite(value):
            names = sorted({self.task.clip_of[int(row)] for batch in group for row in batch})
            raise C4CError(
                f"The {what} is {value} at step {self.at.step} (clips {', '.join(names[:5])}, …); "
                "lower --lr, or look for damaged features: c4c cache verify."
            )

    def _pause(self, stop: StopRequest, journal: Journal) -> None:
        """Save when it is time, or when asked to stop (and then do)."""
        minutes = self.config.checkpoint_minutes
        # The clocks of processes differ: all save when one of them is due, or none does.
        due = bool(minutes) and time.monotonic() - self._saved > 60 * minutes
        due, interrupted, terminated = self.world.any(
            due, stop.name == "SIGINT", stop.name == "SIGTERM"
        )
        asked = interrupted or terminated
        if not due and not asked:
            return
        journal.flush()
        if self.world.leads:
            self._save("last")
        self._saved = time.monotonic()
        self.world.barrier()
        if asked:
            stop.name = "SIGTERM" if terminated else "SIGINT"
            raise stop.error(
                f"stopped by {stop.name} at step {self.at.step}; everything is saved: "
                "add --resume auto to the same command to go on"
            )

    def _keep(self, found: dict[str, float]) -> None:
        """Write the last checkpoint, and the best one when this is it."""
        better = bool(found) and (self.at.best is None or score(found) > self.at.best)
        if better:
            self.at.best, self.at.best_figures = score(found), found
        if self.world.leads:
            if better:
                self._save("best")
            self._save("last")
        self._saved = time.monotonic()
        self.world.barrier()

    def _save(self, name: str) -> None:
        state: dict[str, Tensor] = {}
        if name == "last":
            state = {**self.optimizer.state(), **random_state(self.task.device)}
        meta = {**self.meta, "position": asdict(self.at), "metrics": self.at.best_figures}
        meta["notes"] = list(self.task.notes)
        self.task.save(self.out / name, meta, state)

    def _begin(self) -> None:
        """Start anew, or from a checkpoint of this run."""
        resume = self.config.resume
        if self.world.leads:
            for name in ("best", "last"):
                sweep(self.out / name)
            remove_temporary(self.out)
        last = standing(self.out / "last" if resume == "auto" else Path(resume or ""))
        if resume and last is not None:
            self._go_on(last)
        elif resume not in (None, "auto"):
            raise C4CError(f"--resume {resume}: there is no checkpoint; pass its folder, or auto.")
        elif standing(self.out / "last") is not None and not self.config.overwrite:
            raise C4CError(
                f"{self.out} holds a run already; add --resume auto to go on with it, --overwrite "
                "to begin anew, or --out for another folder."
            )
        self.world.equalise(module for _, module, _ in self.task.modules())

    def _go_on(self, last: Path) -> None:
        checkpoint = load_checkpoint(last)
        settings = checkpoint.meta.get("config") or {}
        now = self.config.numbers()
        changed = sorted(key for key in now if key in settings and settings[key] != now[key])
        if changed:
            key = changed[0]
            raise C4CError(
                f"{last} was trained with {key} {settings[key]}, now {now[key]}; pass the same "
                "settings to resume, or --overwrite to begin anew."
            )
        state = checkpoint.state
        if state is None or "position" not in checkpoint.meta:
            raise C4CError(f"{last} holds no state to go on from; it can only be --init-head.")
        at = parse(_Held, checkpoint.meta, str(last / INFO)).position
        batches = [len(groups) for groups in self.plan] + [0]  # of each epoch, and after the last
        if at.epoch >= len(batches) or at.batch > batches[at.epoch]:
            raise C4CError(
                f"{last} stands at epoch {at.epoch}, batch {at.batch}, which this run does not "
                "have; did the data change? --overwrite begins anew."
            )
        self.at = at
        self.task.restore(checkpoint)
        self.task.seen |= Seen.read(last)  # clips may have left the split since then
        restore_random(state, self.task.device)
        self.optimizer.load_state(state)
        say(f"going on from {last}, step {self.at.step}")
