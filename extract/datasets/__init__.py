"""Datasets: annotations and videos on disk in, a validated ``Dataset`` record out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.core.registry import Registry

if TYPE_CHECKING:
    from c4c.extract.datasets.shared import Counts

DATASETS = Registry(
    "dataset",
    {
        "folder": "c4c.extract.datasets.folder",
        "manifest": "c4c.extract.datasets.manifest",
        "shapes": "c4c.extract.datasets.shapes",
        "shapes-unseen": "c4c.extract.datasets.shapes_unseen",
        "msrvtt": "c4c.extract.datasets.msrvtt",
        "msvd": "c4c.extract.datasets.msvd",
        "lsmdc": "c4c.extract.datasets.lsmdc",
        "activitynet": "c4c.extract.datasets.activitynet",
        "didemo": "c4c.extract.datasets.didemo",
        "vatex": "c4c.extract.datasets.vatex",
        "howto100m": "c4c.extract.datasets.howto100m",
    },
)


@runtime_checkable
class Loader(Protocol):
    """What a dataset's module has (docs/howto/write-a-dataset.md).

    Attributes:
        SPLITS: the splits that are meant when none is named, training first.
        EXPECTED: what complete splits hold, for those that somebody published a number of.
    """

    SPLITS: tuple[str, ...]
    EXPECTED: Mapping[str, Counts]

    def load(self, source: DatasetSource, split: str) -> Dataset:
        """One split; raises C4CError for files that are missing or wrong."""


@runtime_checkable
class OwnSplits(Loader, Protocol):
    """A loader whose splits are those that the user's own files name."""

    def splits(self, source: DatasetSource) -> tuple[str, ...]:
        """The splits of the files at ``source``."""


@runtime_checkable
class Divided(Loader, Protocol):
    """A loader of a dataset that is divided in several ways.

    Attributes:
        DIVISIONS: each way, the usual one first; within one no clip is in two splits.
    """

    DIVISIONS: tuple[tuple[str, ...], ...]


def loader(name: str) -> Loader:
    """The module of dataset ``name``.

    Raises:
        C4CError: there is no dataset of that name.
    """
    module: Loader = DATASETS[name]
    return module


def dataset_splits(name: str) -> tuple[str, ...]:
    """The splits of dataset ``name`` that are meant when none is named.

    Raises:
        C4CError: there is no dataset of that name.
    """
    return loader(name).SPLITS


def divisions(source: DatasetSource) -> tuple[tuple[str, ...], ...]:
    """Every way in which a dataset is divided into splits; the first is the usual one.

    A split may belong to several divisions. Within a division no clip may be in two splits.

    Raises:
        C4CError: there is no dataset of that name, or its splits cannot be read.
    """
    module = loader(source.name)
    if isinstance(module, OwnSplits):
        return (module.splits(source),)
    return module.DIVISIONS if isinstance(module, Divided) else (module.SPLITS,)


def load_dataset(source: DatasetSource, split: str, strict: bool = False) -> Dataset:
    """Load one split of a dataset.

    Args:
        source: which dataset, and where it lies.
        split: one of those in ``divisions``; ``folder`` and ``manifest`` also take ``all``.
        strict: stop when videos are missing or counts differ, instead of noting it.

    Raises:
        C4CError: files that are missing or wrong, an unknown split, an empty one.
    """
    module = loader(source.name)
    if not isinstance(module, OwnSplits):
        known = dict.fromkeys(name for division in divisions(source) for name in division)
        if split not in known:
            raise C4CError(f"{source.name} has no split '{split}'. It has {', '.join(known)}.")
    dataset = module.load(source, split)
    if strict and (dataset.missing or dataset.notes):
        first = dataset.notes[0] if dataset.notes else f"video of '{dataset.missing[0]}'"
        raise C4CError(
            f"{source.name} {split} is not complete: {len(dataset.missing)} videos missing, "
            f"{first}; without --strict c4c goes on with what is there."
        )
    return dataset
