"""``train-head``: a head on cached features; no frame is decoded and no backbone loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from c4c.cache.open import Cache, CaptionFeatures, ClipFeatures, find_cache
from c4c.cache.seen import FILE as SEEN
from c4c.cache.seen import Seen
from c4c.core.device import pick_device, to_device
from c4c.core.errors import C4CError
from c4c.core.progress import say
from c4c.core.records import FeatureBatch, Leak
from c4c.heads import build_head
from c4c.heads.base import Head
from c4c.heads.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from c4c.heads.projections import Projections
from c4c.retrieval.metrics import places_of
from c4c.training.batches import Indices
from c4c.training.config import TrainHeadConfig
from c4c.training.evaluation import BLOCK, Answers, answer_notes, answers, figures
from c4c.training.loop import Run
from c4c.training.parallel import many_processes
from c4c.training.result import TrainResult
from c4c.training.splits import seen_by, settle
from c4c.training.task import Task, put_back

RUNS = Path("c4c-runs")


@dataclass(frozen=True, slots=True)
class FeatureInputs:
    """Cached features of a batch: clips and their captions [B, D]."""

    clips: FeatureBatch
    texts: Tensor

    @property
    def lengths(self) -> Tensor:
        """int64 [B]: frames of each clip."""
        return self.clips.lengths


class CachedTask(Task):
    """A head above features that do not change."""

    def __init__(self, config: TrainHeadConfig, cache: Cache, head: Head) -> None:
        self.config: TrainHeadConfig = config
        self.cache = cache
        self.device = pick_device(config.device)
        self.head = head.to(self.device)
        self._clips: ClipFeatures = cache.clips(config.train_split)
        self._captions: CaptionFeatures = cache.captions(config.train_split)
        owners = places_of(self._clips.ids, self._captions.clip_ids)
        self._rows = np.flatnonzero(owners >= 0)  # captions whose clip has features
        if not len(self._rows):
            raise C4CError(
                f"{cache.path}: split '{config.train_split}' has no captioned clip to train on; "
                f"it has {', '.join(cache.splits)}."
            )
        projections = head.projections
        if self._clips.dim != (head.dim if projections is None else len(projections.visual)):
            raise C4CError(
                f"{cache.path}: features of {self._clips.dim} channels do not fit a {head.name} "
                "of this size; is its head-init, or --init-head, of another backbone?"
            )
        self._owners = owners[self._rows]
        self.clip_of = [self._captions.clip_ids[row] for row in self._rows]
        self.texts = [self._captions.captions[row].text for row in self._rows]
        own = [self._clips.clips[place] for place in self._owners]
        self.stretches = [(clip.path, clip.start) for clip in own]
        settled = settle(
            config.eval_split,
            cache.splits,
            config.train_split,
            (list(dict.fromkeys(own)) if config.learns else [], cache.stamps(config.train_split)),
            lambda split: (cache.clips(split, captioned=True).clips, cache.stamps(split)),
            Seen.read(cache.path) | seen_by(config.init_head),
        )
        self.eval_split, self.leak, self.seen = settled.split, settled.leak, settled.seen
        self.notes = self._notes()

    def _notes(self) -> tuple[str, ...]:
        if self.eval_split is None:
            return ()
        clips, _, right = self._evaluated(self.eval_split)
        gone = len(clips.missing), len(clips.failed)
        leaks = Leak(len(clips.clips), self.leak).notes()
        return (*leaks, *answer_notes(right, clips.expected, *gone))

    def _evaluated(self, split: str) -> tuple[ClipFeatures, CaptionFeatures, Answers]:
        clips = self.cache.clips(split, captioned=True)
        captions = self.cache.captions(split)
        return clips, captions, answers(clips.ids, captions.clip_ids, clips.twins)

    def modules(self) -> list[tuple[str, nn.Module, float]]:
        """The head, and its projections at their share of the learning rate."""
        own: list[tuple[str, nn.Module, float]] = [("head", self.head, 1.0)]
        if self.head.projections is None:
            return own
        return [("projections", self.head.projections, self.config.coef_lr), *own]

    def load(self, captions: Indices, generator: torch.Generator) -> FeatureInputs:
        """Features straight from the memory-mapped shards."""
        seed = int(torch.randint(1 << 31, (1,), generator=generator))
        batch = self._clips.batch(
            self._owners[captions], self.config.view, np.random.default_rng(seed)
        )
        texts = self._captions.batch(self._rows[captions])
        return FeatureInputs(self._place(batch), to_device(texts, self.device))

    def _place(self, batch: FeatureBatch) -> FeatureBatch:
        return FeatureBatch(
            to_device(batch.features, self.device), to_device(batch.lengths, self.device)
        )

    def encode(self, inputs: Any, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """They are features already."""
        return inputs.clips.features[start:stop], inputs.texts[start:stop]

    def evaluate(self) -> dict[str, float]:
        """Figures on the evaluated split; empty when there is none."""
        if self.eval_split is None:
            return {}
        self.train_mode(False)
        clips, captions, right = self._evaluated(self.eval_split)
        text = captions.batch(np.arange(len(captions))).to(self.device)
        return figures(self.head, self._blocks(clips), text, right)

    def _blocks(self, clips: ClipFeatures) -> Iterator[FeatureBatch]:
        for first in range(0, len(clips), BLOCK):
            places = np.arange(first, min(first + BLOCK, len(clips)))
            yield self._place(clips.batch(places, self.config.eval_view, np.random.default_rng(0)))

    def save(self, folder: Path, meta: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Write the head."""
        beside = {SEEN: self.seen.as_bytes()}
        save_checkpoint(folder, self.head, meta, state=state or None, beside=beside)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take the head's parameters back."""
        put_back(self.head, checkpoint.head.state_dict(), checkpoint.path)


def start_head(config: Any, dim: int, init: dict[str, Tensor], hidden: bool = False) -> Head:
    """The head of a run: from a checkpoint, or started from CLIP's text transformer.

    Args:
        config: names the head, its size and seed.
        dim: D.
        init: CLIP's part in it.
        hidden: it is to have projections of its own: the checkpoint's, or CLIP's.

    Raises:
        C4CError: the checkpoint holds another head, or one for other features.
    """
    torch.manual_seed(config.seed)
    if config.init_head is None:
        return build_head(config.head, dim, init, config.max_frames, config.layers, hidden)
    head = load_checkpoint(config.init_head).head
    if head.name != config.head or head.dim != dim:
        raise C4CError(
            f"--init-head {config.init_head} is a {head.name} of {head.dim} channels, "
            f"expected {config.head} of {dim}."
        )
    if head.projections is not None and not hidden:
        raise C4CError(
            f"--init-head {config.init_head} has projections of its own, for a cache made with "
            "--features hidden; start from another head."
        )
    if hidden and head.projections is None:
        head.projections = Projections.of_clip(init)
    return head


def train_head(config: TrainHeadConfig) -> TrainResult:
    """Train a head on a cache.

    Raises:
        C4CError: the cache lacks the splits, or settings that cannot be.
        Interrupted: stopped on request, with everything saved.
    """
    cache = Cache.open(find_cache(config.cache))
    hidden = cache.features == "hidden"
    if config.train_split not in cache.splits:
        raise C4CError(
            f"{cache.path} has no split '{config.train_split}' to train on. It has "
            f"{', '.join(cache.splits)}: pass --train-split, or extract with --split "
            f"{config.train_split}."
        )
    if config.tune == "projections":
        cache.require_features(projected=True)
    tuned = "-projections" if config.tune == "projections" else ""
    out = config.out or RUNS / f"{config.head}-{cache.dataset}{tuned}"
    with many_processes() as world, world.one_writer(out):
        head = start_head(config, cache.dim, cache.head_init(), hidden)
        if head.projections is not None:
            head.projections.requires_grad_(config.tune == "projections")
        task = CachedTask(config, cache, head)
        meta = {
            "config": config.numbers(),
            "chosen_on": task.eval_split,
            "fingerprint": asdict(cache.fingerprint),
        }
        if not config.learns:
            found = _keep_as_it_is(task, out, meta) if world.leads else None
            world.barrier()
            return found or TrainResult(out / "best", out / "last")
        return Run(task, out, world, meta).train()


def _keep_as_it_is(task: CachedTask, out: Path, meta: dict[str, Any]) -> TrainResult:
    """A head without parameters has nothing to train on these features: evaluate and keep it."""
    name = task.head.name
    say(f"{name} has no parameters: nothing to train on cached features; evaluating it")
    found = task.measure()
    for name in ("best", "last"):
        task.save(out / name, {**meta, "metrics": found, "notes": list(task.notes)}, {})
    return TrainResult(out / "best", out / "last", found, notes=tuple(task.notes))
