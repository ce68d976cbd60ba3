"""How sure a figure is: bootstrap intervals over queries, and sign-flip tests of differences.

Queries are drawn in clusters: captions of one clip, or of two twins, stand or fall together, so
drawing them one by one would make intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DRAWS = 10_000
_BLOCK = 256
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, its 95 % interval, and the chance of one as far from zero if zero were true."""

    value: float
    low: float
    high: float
    p: float


def interval(
    values: Floats, clusters: Sequence[str] | None = None, seed: int = 0, draws: int = DRAWS
) -> Interval:
    """The mean of values, its percentile bootstrap interval and its sign-flip p-value.

    Args:
        values: float64 [Q], one a query; differences for a paired comparison.
        clusters: [Q], what each query belongs to; ``None`` when each stands alone.
        seed: of the draws.
        draws: how many; p is at least 1 / (draws + 1).
    """
    sums, sizes = _by_cluster(values, clusters)
    generator = np.random.default_rng(seed)
    count, mean = len(sums), float(values.mean())
    boot, flips = np.empty(draws), np.empty(draws)
    for low in range(0, draws, _BLOCK):
        size = min(_BLOCK, draws - low)
        drawn = generator.integers(0, count, (size, count))
        boot[low : low + size] = sums[drawn].sum(1) / sizes[drawn].sum(1)
        signs = generator.integers(0, 2, (size, count)) * 2.0 - 1
        flips[low : low + size] = (signs @ sums) / len(values)
    edges = np.percentile(boot, [2.5, 97.5])
    # A hair of slack: sums of the same numbers in another order are equal by meaning.
    beyond = int((np.abs(flips) >= abs(mean) - 1e-12).sum())
    return Interval(mean, float(edges[0]), float(edges[1]), (1 + beyond) / (draws + 1))


def _by_cluster(values: Floats, clusters: Sequence[str] | None) -> tuple[Floats, Floats]:
    """Sum and size of each cluster."""
    if clusters is None:
        return values, np.ones(len(values))
    _, place = np.unique(np.asarray(clusters), return_inverse=True)
    sums: Floats = np.bincount(place, values).astype(np.float64)
    return sums, np.bincount(place).astype(np.float64)


def holm(chances: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm 1979), in the order given."""
    found, least = [0.0] * len(chances), 0.0
    for done, place in enumerate(np.argsort(chances, kind="stable")):
        least = max(least, min(1.0, chances[place] * (len(chances) - done)))
        found[place] = least
    return found
