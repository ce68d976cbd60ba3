"""Which split a run is evaluated on, and what of it has been trained on.

By default a best epoch is never chosen on clips that are trained on, by this run or by one
before it; a split that was named is taken as it is, and what leaks is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from c4c.cache.seen import Seen
from c4c.cache.stamps import file_stamps
from c4c.core.config import DatasetSource, dataset_source
from c4c.core.errors import C4CError
from c4c.core.progress import say
from c4c.core.records import Clip, Dataset, Overlap
from c4c.extract.datasets import divisions, load_dataset
from c4c.heads.checkpoint import standing
from c4c.training.config import TrainE2EConfig

# Clips, and stamps of their files by path.
Stamped = tuple[Sequence[Clip], Mapping[str, str]]


@dataclass(frozen=True)
class Evaluated:
    """What a run is evaluated on.

    Attributes:
        split: the split by which the best epoch is chosen; ``None`` when there is none.
        leak: clips of it that are trained on, by this run or before it.
        seen: all clips that go into what the run makes.
    """

    split: str | None
    leak: Overlap
    seen: Seen


def settle(
    wanted: str,
    there: tuple[str, ...],
    train: str,
    trained: Stamped,
    clips_of: Callable[[str], Stamped],
    before: Seen,
) -> Evaluated:
    """Choose the evaluated split, and record the clips that go into the run.

    Args:
        wanted: a split, ``auto`` or ``none``.
        there: splits that there are.
        train: the one that is trained on.
        trained: its clips that are; empty for a run that has nothing to train.
        clips_of: the clips of a split.
        before: what went into the weights that the run starts from.

    Raises:
        C4CError: a split was named that does not exist.
    """
    clips_of = cache(clips_of)
    seen = before | Seen.of(*trained)
    split = evaluated_split(wanted, there, train, lambda one: seen.trained.shared(*clips_of(one)))
    if split is None:
        return Evaluated(None, Overlap(), seen)
    held, stamps = clips_of(split)
    leak = seen.trained.shared(held, stamps)
    return Evaluated(split, leak, seen | Seen.of((), stamps, held if trained[0] else ()))


def evaluated_split(
    wanted: str, there: tuple[str, ...], train: str, trained: Callable[[str], Overlap]
) -> str | None:
    """The split named, or ``val`` when it is there and none of it is trained on, or none.

    Two divisions of one collection may share clips (MSR-VTT's 9k holds its val), and a manifest
    may list a file twice.

    Args:
        wanted: a split, ``auto`` or ``none``.
        there: splits that there are.
        train: the one that is trained on.
        trained: which clips of a split are trained on.

    Raises:
        C4CError: a split was named that does not exist.
    """
    if wanted == "none":
        return None
    if wanted != "auto":
        if wanted not in there:
            known = ", ".join(there)
            raise C4CError(f"--eval-split {wanted} does not exist. There are: {known}, none.")
        if (leak := trained(wanted)).clips:
            say(f"leak: {leak.clips} clips of '{wanted}' are trained on ({leak})")
        return wanted
    if "val" not in there or train == "val":
        say("no val split: the last checkpoint is kept as the best (--eval-split names one)")
        return None
    if (leak := trained("val")).clips:
        say(
            f"{leak.clips} clips of 'val' are in '{train}' too, or in a training before it "
            f"({leak}): nothing is chosen on it, and the last checkpoint is kept as the best"
        )
        return None
    return "val"


def splits_to_evaluate(config: TrainE2EConfig) -> tuple[str, ...]:
    """Splits that a run may be evaluated on: any that is named, ``val`` of its own division."""
    known = divisions(_source(config))
    if config.eval_split != "auto":
        return tuple(dict.fromkeys(split for division in known for split in division))
    return next((one for one in known if config.train_split in one), known[0])


def load_split(config: TrainE2EConfig, split: str) -> Dataset:
    """The captioned clips of a split of the run's dataset.

    Raises:
        C4CError: it cannot be read.
    """
    dataset = load_dataset(_source(config), split)
    captioned = {caption.clip_id for caption in dataset.captions}
    return replace(dataset, clips=tuple(c for c in dataset.clips if c.id in captioned))


def _source(config: TrainE2EConfig) -> DatasetSource:
    return dataset_source(config.dataset, config.root, config.videos, config.captions)


def stamped(dataset: Dataset) -> Stamped:
    """The clips of a split that have captions, and the stamps of their files as they are now."""
    captioned = {caption.clip_id for caption in dataset.captions}
    clips = [clip for clip in dataset.clips if clip.id in captioned]
    return clips, file_stamps(clip.path for clip in clips)


def seen_by(checkpoint: Path | str | None) -> Seen:
    """What went into the checkpoint that a run starts from; nothing when it is none."""
    folder = standing(Path(checkpoint)) if checkpoint else None
    if folder is None:
        return Seen.nothing()
    return Seen.read(folder, f"{checkpoint} does not record which clips it was trained on")
