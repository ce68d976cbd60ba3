"""Which data the runs of a study need, and how they are extracted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from c4c.core.config import MADE, DatasetSource, dataset_source
from c4c.core.errors import C4CError
from c4c.core.presets import preset
from c4c.core.progress import say
from c4c.study.config import StudyConfig
from c4c.study.plan import Run, default_preset

if TYPE_CHECKING:
    from c4c.extract.config import ExtractConfig


@dataclass(frozen=True, slots=True)
class Splits:
    """The splits of one run.

    Attributes:
        train: trained on.
        select: chooses the best epoch; ``None`` when nothing does.
        report: what the result is of.
        eval_split: how the training is told of ``select``.
    """

    train: str
    select: str | None
    report: str
    eval_split: str

    @property
    def all(self) -> tuple[str, ...]:
        """Each split once."""
        named = (self.train, self.select, self.report)
        return tuple(dict.fromkeys(one for one in named if one is not None))


def splits_of(config: StudyConfig, run: Run) -> Splits:
    """The splits of a run: those of the division of its dataset that it trains in.

    Reported is ``test``, or ``val`` where that is the gallery; the best epoch is chosen on
    ``val`` where there is one, unless the user named a split.

    Raises:
        C4CError: the dataset has no such splits.
    """
    from c4c.extract.datasets import divisions

    ways = divisions(source_of(config, run.dataset))
    known = tuple(dict.fromkeys(split for way in ways for split in way))
    train = run.settings.get("train_split", "train")
    way = next((one for one in ways if train in one), ())
    report = _role("test", way) or _role("val", way)
    if report is None:
        lacking = f"no split '{train}'" if not way else f"neither test nor val beside '{train}'"
        raise C4CError(f"{run.dataset} has {lacking} for a study. It has {', '.join(known)}.")
    if config.select_on not in (*known, "auto", "none"):
        raise C4CError(
            f"--select-on {config.select_on}: {run.dataset} has no such split. "
            f"It has {', '.join(known)}."
        )
    named = None if config.select_on == "none" else config.select_on
    select = _role("val", way) if config.select_on == "auto" else named
    # A val that the training finds by itself is checked against what it trains on.
    found = config.select_on == "auto" and select in (None, "val")
    return Splits(train, select, report, "auto" if found else select or "none")


def _role(role: str, way: Sequence[str]) -> str | None:
    """The split of a division that plays a role: ``test``, or the likes of ``test-full``."""
    return next((one for one in way if one == role or one.startswith(f"{role}-")), None)


def source_of(config: StudyConfig, dataset: str) -> DatasetSource:
    """Where a dataset of the study lies."""
    return dataset_source(dataset, config.root, config.videos, config.captions)


def needed_splits(config: StudyConfig, dataset: str, runs: Sequence[Run]) -> tuple[str, ...]:
    """Every split that some run on a dataset trains on, chooses by or reports.

    Raises:
        C4CError: the dataset has no such splits.
    """
    own = (splits_of(config, run).all for run in runs if run.dataset == dataset)
    return tuple(dict.fromkeys(split for splits in own for split in splits))


def extraction(
    config: StudyConfig, dataset: str, splits: tuple[str, ...] = (), backbone: str | None = None
) -> ExtractConfig:
    """How a study extracts a dataset: by its preset, where everyone looks for the cache.

    Args:
        config: of the study.
        dataset: its name.
        splits: those to extract.
        backbone: ``NAME`` or ``NAME:TAG`` of a variant, which has a cache of its own.
    """
    from c4c.cache.open import DEFAULT
    from c4c.extract.config import ExtractConfig

    settings = preset(config.preset or default_preset(dataset), dataset, "extract")
    cache = config.cache or DEFAULT / dataset
    named: dict[str, Any] = {}
    if backbone is not None:
        name, _, tag = backbone.partition(":")
        named = {"backbone": name, "pretrained": tag or config.pretrained}
        words = re.sub(r"[^\w.-]", "-", backbone)
        cache = cache / words if config.cache else DEFAULT / f"{dataset}-{words}"
    return ExtractConfig(
        dataset=dataset,
        root=config.root,
        videos=config.videos,
        captions=config.captions,
        cache=cache,
        splits=splits,
        device=config.devices[0] if config.devices else None,
        workers=config.workers,
        **(settings | named if backbone else named_backbone(config, settings)),
    )


def named_backbone(config: StudyConfig, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with the backbone that the user named over the preset's."""
    named = {"backbone": config.backbone, "pretrained": config.pretrained}
    given = {key: value for key, value in named.items() if value is not None}
    return {**given, **settings} if "pretrained" in settings else {**settings, **given}


def make_shapes_once(config: StudyConfig, dataset: str) -> None:
    """The synthetic datasets are made where they do not exist, before several runs need them."""
    from c4c.extract.datasets import load_dataset

    if to_be_made(config, dataset):
        source = source_of(config, dataset)
        say(f"making the dataset {dataset} in {source.root}")
        load_dataset(source, "train")


def to_be_made(config: StudyConfig, dataset: str) -> bool:
    """Whether a dataset is synthetic and does not exist yet."""
    return dataset in MADE and not source_of(config, dataset).root.exists()
