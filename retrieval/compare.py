"""Two evaluations query by query: which were won and lost, and whether that is chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError
from c4c.files import read_json
from c4c.retrieval.evaluate import SCHEMA

DRAWS = 10_000
_BLOCK = 256
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Results:
    """A results file, as far as a comparison needs it.

    Attributes:
        path: the file.
        head: name of the head.
        ranks: expected rank by query key, for one direction.
        texts: what stands for a query in a table.
    """

    path: Path
    head: str
    ranks: dict[str, float]
    texts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference, B less A, with its 95 % interval and the chance of one as large by luck."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from A to B.

    Attributes:
        queries: how many queries both hold.
        only_a: queries that only A holds; ``only_b`` likewise.
        won: (text, rank in A, rank in B) of queries that B ranks better, largest gain first.
        lost: the same for those that B ranks worse.
        differences: by figure: ``R@1``, ``R@5``, ``R@10`` in points, ``mean rank``.
    """

    queries: int
    only_a: int
    only_b: int
    won: tuple[tuple[str, float, float], ...]
    lost: tuple[tuple[str, float, float], ...]
    differences: dict[str, Interval]


def read_results(path: Path, way: str = "t2v") -> Results:
    """Read what ``c4c retrieve --evaluate --json`` wrote.

    Raises:
        C4CError: the file is not such a one.
    """
    found = read_json(path)
    try:
        if found["schema"] != SCHEMA:
            raise C4CError(f"{path} has schema {found['schema']}, this c4c reads {SCHEMA}.")
        rows = found["queries"][way]
        key = "caption" if way == "t2v" else "clip"
        ranks = {str(row[key]): float(row["rank"]) for row in rows}
        texts = {str(row[key]): str(row.get("text", row[key])) for row in rows}
        return Results(path, str(found["head"]), ranks, texts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise C4CError(
            f"{path} is no results file ({error!r}); make one with "
            "c4c retrieve --evaluate --json FILE."
        ) from None


def compare(a: Results, b: Results, seed: int = 0) -> Comparison:
    """Compare two results on the queries that both hold.

    Raises:
        C4CError: they share no query.
    """
    shared = [key for key in a.ranks if key in b.ranks]
    if not shared:
        raise C4CError(f"{a.path} and {b.path} share no query; are they of the same split?")
    first = np.array([a.ranks[key] for key in shared])
    second = np.array([b.ranks[key] for key in shared])
    gain = first - second
    order = np.argsort(-gain, kind="stable")
    rows = [(a.texts[shared[i]], float(first[i]), float(second[i])) for i in order]
    measures: dict[str, Callable[[Floats], Floats]] = {f"R@{k}": _within(k) for k in (1, 5, 10)}
    measures["mean rank"] = lambda ranks: ranks
    return Comparison(
        queries=len(shared),
        only_a=len(a.ranks) - len(shared),
        only_b=len(b.ranks) - len(shared),
        won=tuple(row for row in rows if row[2] < row[1]),
        lost=tuple(row for row in reversed(rows) if row[2] > row[1]),
        differences={
            name: paired_interval(measure(second) - measure(first), seed)
            for name, measure in measures.items()
        },
    )


def _within(k: int) -> Callable[[Floats], Floats]:
    return lambda ranks: np.where(ranks <= k, 100.0, 0.0)


def paired_interval(differences: Floats, seed: int = 0, draws: int = DRAWS) -> Interval:
    """The mean of paired differences, its bootstrap interval, and a sign-flip p-value.

    Args:
        differences: [Q], one a query.
        seed: of the draws.
        draws: how many; p is at least 1 / (draws + 1).
    """
    generator = np.random.default_rng(seed)
    count, mean = len(differences), float(differences.mean())
    boot, flips = np.empty(draws), np.empty(draws)
    for low in range(0, draws, _BLOCK):
        size = min(_BLOCK, draws - low)
        boot[low : low + size] = differences[generator.integers(0, count, (size, count))].mean(1)
        signs = generator.integers(0, 2, (size, count)) * 2.0 - 1
        flips[low : low + size] = (signs @ differences) / count
    edges = np.percentile(boot, [2.5, 97.5])
    # A hair of slack: sums of the same numbers in another order are equal by meaning.
    beyond = int((np.abs(flips) >= abs(mean) - 1e-12).sum())
    return Interval(mean, float(edges[0]), float(edges[1]), (1 + beyond) / (draws + 1))


def as_dict(found: Comparison) -> dict[str, Any]:
    """A comparison as plain data."""
    from dataclasses import asdict

    return asdict(found)
