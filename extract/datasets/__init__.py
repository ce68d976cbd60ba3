"""Datasets: annotations and videos on disk in, a validated ``Dataset`` record out."""

from __future__ import annotations

from c4c.config import DatasetSource
from c4c.errors import C4CError
from c4c.records import Dataset
from c4c.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "folder": "c4c.extract.datasets.folder",
        "lsmdc": "c4c.extract.datasets.lsmdc",
        "shapes": "c4c.extract.datasets.shapes",
    },
)


def dataset_splits(name: str) -> tuple[str, ...]:
    """The splits that dataset ``name`` has.

    Raises:
        C4CError: there is no dataset of that name.
    """
    splits: tuple[str, ...] = DATASETS[name].SPLITS
    return splits


def load_dataset(source: DatasetSource, split: str, strict: bool = False) -> Dataset:
    """Load one split of a dataset.

    Args:
        source: which dataset, and where it lies.
        split: one of ``dataset_splits``; ``folder`` takes any split that its captions name.
        strict: stop when videos are missing or counts differ, instead of noting it.

    Raises:
        C4CError: files that are missing or wrong, an unknown split, an empty one.
    """
    module = DATASETS[source.name]
    if module.SPLITS and split not in module.SPLITS and source.name != "folder":
        raise C4CError(f"{source.name} has no split '{split}'. It has {', '.join(module.SPLITS)}.")
    dataset: Dataset = module.load(source, split)
    if strict and (dataset.missing or dataset.notes):
        first = dataset.notes[0] if dataset.notes else f"video of '{dataset.missing[0]}'"
        count = len(dataset.missing)
        raise C4CError(
            f"{source.name} {split} is not complete: {count} videos missing, {first}; "
            "without --strict c4c goes on with what is there."
        )
    return dataset
