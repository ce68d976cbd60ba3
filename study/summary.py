"""From the runs of a study to its figures: means, deviations, intervals, and what differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.retrieval.compare import Results, parse_results
from c4c.retrieval.statistics import Interval, holm, interval
from c4c.study.spec import Settings, Study

Floats = npt.NDArray[np.float64]
CHANCE = 50.0  # twin accuracy of a head that does not see order
ALPHA = 0.05


def _twins(found: Results, keys: Sequence[str]) -> Floats:
    return np.array([100 * found.queries[key].before_twin for key in keys])


def _recall(k: int) -> Callable[[Results, Sequence[str]], Floats]:
    return lambda found, keys: 100 * found.ranks(keys).within(k)


# Figure to (direction, a value a query); twins only where clips have them.
MEASURES: dict[str, tuple[str, Callable[[Results, Sequence[str]], Floats]]] = {
    "t2v_r1": ("t2v", _recall(1)),
    "t2v_r5": ("t2v", _recall(5)),
    "t2v_r10": ("t2v", _recall(10)),
    "t2v_mean_rank": ("t2v", lambda found, keys: found.ranks(keys).expected()),
    "v2t_r1": ("v2t", _recall(1)),
    "twins": ("t2v", _twins),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a variant: its mean over seeds and queries, and how sure it is.

    Attributes:
        interval: 95 % bootstrap interval over queries of the mean over seeds.
        deviation: standard deviation over seeds; NaN for a single one.
        change: difference to the baseline, with a p-value corrected for the number of variants.
    """

    interval: Interval
    deviation: float
    change: Interval | None = None


@dataclass(frozen=True, slots=True)
class Variant:
    """What a study found for one variant on one dataset.

    Attributes:
        dataset: its name.
        settings: of the grid.
        seeds: how many trainings.
        figures: by name, see ``MEASURES``.
        order: twin accuracy less chance, its p-value corrected; ``None`` without twins.
        notes: what the evaluations said beside their figures.
        gallery: clips in the gallery, and when it is complete.
    """

    dataset: str
    settings: Settings
    seeds: int
    figures: dict[str, Figure]
    order: Interval | None = None
    notes: tuple[str, ...] = ()
    gallery: tuple[int, int] = (0, 0)

    @property
    def label(self) -> str:
        """The variant in words."""
        return label(self.settings)

    @property
    def sees_order(self) -> bool:
        """Whether its twin accuracy is above chance beyond doubt."""
        return self.order is not None and self.order.value > 0 and self.order.p < ALPHA


def label(settings: Settings) -> str:
    """Settings in words: the value alone when there is one setting and it is a word."""
    if len(settings) == 1 and isinstance(next(iter(settings.values())), str):
        return str(next(iter(settings.values())))
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def results_of_variant(variant: Variant, results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The results of one variant on one dataset, a seed each."""
    wanted = (variant.dataset, variant.settings)
    return [one for one in results if (one["dataset"], one["variant"]) == wanted]


@dataclass(slots=True)
class _Values:
    """Values of one variant, [seeds, queries] for each figure."""

    seeds: list[int] = field(default_factory=list)
    keys: dict[str, list[str]] = field(default_factory=dict)
    clusters: dict[str, list[str]] = field(default_factory=dict)
    of: dict[str, Floats] = field(default_factory=dict)


def summarise_runs(study: Study, results: Sequence[dict[str, Any]], seed: int = 0) -> list[Variant]:
    """Figures of every variant that has a run, dataset after dataset.

    Args:
        study: whose baseline the others are compared with.
        results: contents of the runs' result files.
        seed: of the bootstrap.

    Raises:
        C4CError: results of one variant do not hold the same queries.
    """
    found: list[Variant] = []
    for dataset in dict.fromkeys(one["dataset"] for one in results):
        own = [one for one in results if one["dataset"] == dataset]
        groups = [
            (settings, [one for one in own if one["variant"] == settings])
            for settings in study.variants()
        ]
        there = [(settings, runs, _values(runs)) for settings, runs in groups if runs]
        base = next((values for one, _, values in there if one == study.baseline), None)
        variants = [
            _variant(dataset, settings, runs, values, None if values is base else base, seed)
            for settings, runs, values in there
        ]
        found += _corrected(variants)
    return found


def _values(runs: Sequence[dict[str, Any]]) -> _Values:
    found = _Values([one["seed"] for one in runs])
    results = {
        way: [parse_results(one["evaluation"], Path("result.json"), way) for one in runs]
        for way in ("t2v", "v2t")
    }
    for name, (way, measure) in MEASURES.items():
        parsed = results[way]
        keys = list(parsed[0].queries)
        if any(list(one.queries) != keys for one in parsed[1:]):
            raise C4CError(
                "Runs of one variant were evaluated on different queries: did the data change in "
                "between? Remove the study's folder and run it again."
            )
        values = np.array([measure(one, keys) for one in parsed])
        if np.isnan(values).any():
            continue
        found.keys[name] = keys
        found.clusters[name] = [parsed[0].queries[key].cluster for key in keys]
        found.of[name] = values
    return found


def _variant(
    dataset: str,
    settings: Settings,
    runs: Sequence[dict[str, Any]],
    values: _Values,
    base: _Values | None,
    seed: int,
) -> Variant:
    figures = {}
    for name, own_values in values.of.items():
        spread = float(np.std(own_values.mean(1), ddof=1)) if len(runs) > 1 else math.nan
        own = interval(own_values.mean(0), values.clusters[name], seed)
        figures[name] = Figure(own, spread, _change(name, values, base, seed))
    order = None
    if "twins" in values.of:
        wins = values.of["twins"].mean(0)
        order = interval(wins - CHANCE, values.clusters["twins"], seed)
    there = runs[0]["evaluation"]["metrics"]["t2v"]
    notes = dict.fromkeys(note for one in runs for note in one["evaluation"]["notes"])
    gallery = (there["gallery"], there["gallery_expected"])
    return Variant(dataset, settings, len(runs), figures, order, tuple(notes), gallery)


def _change(name: str, values: _Values, base: _Values | None, seed: int) -> Interval | None:
    """The difference to the baseline on the seeds and the queries that both hold."""
    if base is None or name not in base.of:
        return None
    seeds, their_seeds = _paired(values.seeds, base.seeds)
    mine, theirs = _paired(values.keys[name], base.keys[name])
    if not seeds or not mine:
        return None
    own = values.of[name][seeds][:, mine].mean(0)
    clusters = [values.clusters[name][i] for i in mine]
    return interval(own - base.of[name][their_seeds][:, theirs].mean(0), clusters, seed)


def _paired(mine: Sequence[Any], theirs: Sequence[Any]) -> tuple[list[int], list[int]]:
    """Places in both of what both hold, in the order of the first."""
    place = {one: i for i, one in enumerate(theirs)}
    shared = [i for i, one in enumerate(mine) if one in place]
    return shared, [place[mine[i]] for i in shared]


def _corrected(variants: list[Variant]) -> list[Variant]:
    """The same with p-values corrected for how many variants are looked at."""
    orders = _holm([one.order for one in variants])
    changes = {name: _holm([_at(one.figures, name) for one in variants]) for name in MEASURES}
    return [
        Variant(
            one.dataset,
            one.settings,
            one.seeds,
            {
                name: Figure(figure.interval, figure.deviation, changes[name][place])
                for name, figure in one.figures.items()
            },
            orders[place],
            one.notes,
            one.gallery,
        )
        for place, one in enumerate(variants)
    ]


def _at(figures: dict[str, Figure], name: str) -> Interval | None:
    return figures[name].change if name in figures else None


def _holm(found: Sequence[Interval | None]) -> list[Interval | None]:
    places = [place for place, one in enumerate(found) if one is not None]
    corrected = holm([one.p for one in found if one is not None])
    fixed = dict(zip(places, corrected, strict=True))
    return [
        None if one is None else Interval(one.value, one.low, one.high, fixed[place])
        for place, one in enumerate(found)
    ]
