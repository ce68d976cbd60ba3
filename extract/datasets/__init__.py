"""Datasets: annotations and videos on disk in, a validated ``Dataset`` record out."""

from __future__ import annotations

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.core.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "folder": "c4c.extract.datasets.folder",
        "manifest": "c4c.extract.datasets.manifest",
        "shapes": "c4c.extract.datasets.shapes",
        "msrvtt": "c4c.extract.datasets.msrvtt",
        "msvd": "c4c.extract.datasets.msvd",
        "lsmdc": "c4c.extract.datasets.lsmdc",
        "activitynet": "c4c.extract.datasets.activitynet",
        "didemo": "c4c.extract.datasets.didemo",
        "vatex": "c4c.extract.datasets.vatex",
        "howto100m": "c4c.extract.datasets.howto100m",
    },
)


def dataset_splits(name: str) -> tuple[str, ...]:
    """The splits of dataset ``name`` that are meant when none is named.

    Raises:
        C4CError: there is no dataset of that name.
    """
    splits: tuple[str, ...] = DATASETS[name].SPLITS
    return splits


def divisions(source: DatasetSource) -> tuple[tuple[str, ...], ...]:
    """Every way in which a dataset is divided into splits; the first is the usual one.

    A split may belong to several divisions. Within a division no clip may be in two splits.

    Raises:
        C4CError: there is no dataset of that name, or its splits cannot be read.
    """
    module = DATASETS[source.name]
    if hasattr(module, "splits"):  # whatever its captions file names
        return (module.splits(source),)
    found: tuple[tuple[str, ...], ...] = getattr(module, "DIVISIONS", (module.SPLITS,))
    return found


def load_dataset(source: DatasetSource, split: str, strict: bool = False) -> Dataset:
    """Load one split of a dataset.

    Args:
        source: which dataset, and where it lies.
        split: one of those in ``divisions``; ``folder`` and ``manifest`` also take ``all``.
        strict: stop when videos are missing or counts differ, instead of noting it.

    Raises:
        C4CError: files that are missing or wrong, an unknown split, an empty one.
    """
    module = DATASETS[source.name]
    if not hasattr(module, "splits"):
        known = dict.fromkeys(name for division in divisions(source) for name in division)
        if split not in known:
            raise C4CError(f"{source.name} has no split '{split}'. It has {', '.join(known)}.")
    dataset: Dataset = module.load(source, split)
    if strict and (dataset.missing or dataset.notes):
        first = dataset.notes[0] if dataset.notes else f"video of '{dataset.missing[0]}'"
        raise C4CError(
            f"{source.name} {split} is not complete: {len(dataset.missing)} videos missing, "
            f"{first}; without --strict c4c goes on with what is there."
        )
    return dataset
