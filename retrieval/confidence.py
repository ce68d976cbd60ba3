"""How sure a hit is: its score beside what unrelated sentences get on the same gallery.

Whatever is asked, something scores best. So sentences that have nothing to do with each other
(nor, most of them, with the gallery) are asked when a gallery is made, and the best score of each
is kept with it. A hit that scores like those is no answer. The confidence of a score is the share
of unrelated sentences that would score lower, by a normal distribution of their best scores.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_WHO = (
    "an astronaut", "a bride and a groom", "two chefs", "a herd of elephants", "a tractor",
    "a brass band", "a goalkeeper", "a newborn baby", "a steam train", "a school of fish",
    "an old fisherman", "a drone", "three dancers", "a judge", "a beekeeper", "a grey cat",
)  # fmt: skip
_WHAT = (
    "in front of a waterfall", "falls asleep at a desk", "crosses a frozen lake",
    "is interviewed on television", "turns around and waves", "at a petrol station by night",
    "is painted on a wall", "climbs out of a swimming pool",
)  # fmt: skip


def unrelated_sentences() -> list[str]:
    """128 sentences about things that hardly ever happen together."""
    return [f"{who} {what}" for who, what in itertools.product(_WHO, _WHAT)]


@dataclass(frozen=True, slots=True)
class Usual:
    """What unrelated sentences score on a gallery: mean and standard deviation of their best."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, unrelated: npt.NDArray[np.float32]) -> Usual | None:
        """From the best score of each, [S]; ``None`` when there are no such sentences."""
        if len(unrelated) < 2:
            return None
        return cls(float(unrelated.mean()), max(float(unrelated.std()), 1e-6))


def confidence(score: float, usual: Usual | None) -> float | None:
    """The probability that an unrelated sentence's best hit scores lower than ``score``.

    Args:
        score: a cosine.
        usual: what they score on the same gallery.

    Returns:
        0 to 1; ``None`` when that is not known.

    Example:
        >>> confidence(0.30, Usual.of(np.array([0.2, 0.3, 0.4], np.float32)))
        0.5
    """
    if usual is None:
        return None
    off = (usual.mean - score) / usual.deviation
    return round(0.5 * math.erfc(off / math.sqrt(2)), 4)
