"""Which frames of a clip are looked at, and in which order: pure functions of numbers.

The choice is made on frame numbers of the cached (or decoded) frames, so one extraction
serves every setting.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from c4c.core.errors import C4CError

if TYPE_CHECKING:  # the names are options of commands, whose help must not wait for numpy
    import numpy as np
    import numpy.typing as npt

    Indices = npt.NDArray[np.int64]


_RATE = re.compile(r"\bfps=(\d+(?:\.\d+)?)(?![\w.])")


def _head(count: int, limit: int) -> Indices:
    import numpy as np

    return np.arange(limit, dtype=np.int64)


def _tail(count: int, limit: int) -> Indices:
    import numpy as np

    return np.arange(count - limit, count, dtype=np.int64)


def _uniform(count: int, limit: int) -> Indices:
    """As CLIP4Clip spaces them: from the first frame to the last, rounded down."""
    import numpy as np

    return np.linspace(0, count - 1, num=limit, dtype=np.int64)


def _ordinary(indices: Indices, generator: np.random.Generator | None) -> Indices:
    return indices


def _reverse(indices: Indices, generator: np.random.Generator | None) -> Indices:
    return indices[::-1].copy()


def _random(indices: Indices, generator: np.random.Generator | None) -> Indices:
    if generator is None:
        raise C4CError("Frame order 'random' needs a generator with a seed; pass one.")
    return generator.permutation(indices)


SAMPLERS: dict[str, Callable[[int, int], Indices]] = {
    "head": _head,
    "tail": _tail,
    "uniform": _uniform,
}
ORDERS: dict[str, Callable[[Indices, np.random.Generator | None], Indices]] = {
    "ordinary": _ordinary,
    "reverse": _reverse,
    "random": _random,
}


@dataclass(frozen=True, slots=True)
class View:
    """Which frames of a clip a head sees.

    Attributes:
        max_frames: at most; ``None`` is as many as the head takes.
        fps: at most so many a second; ``None`` is as many as there are. A head learns movement
            by the time between frames: of a cache with more it sees as many as it was trained on.
        sampling: which ones when there are more, a name in ``SAMPLERS``.
        order: in which order, a name in ``ORDERS``.
        seed: for the order ``random``.
    """

    max_frames: int | None = None
    sampling: str = "uniform"
    order: str = "ordinary"
    seed: int = 0
    fps: float | None = None

    def seen(
        self,
        rows: npt.NDArray[Any],
        times: npt.NDArray[np.floating[Any]],
        generator: np.random.Generator | None = None,
    ) -> npt.NDArray[Any]:
        """Of the frames of a clip those that a head sees, in their order.

        Args:
            rows: features [n, D], or whatever there is of each frame.
            times: seconds [n], rising.
            generator: for orders that are drawn.
        """
        import numpy as np

        if self.fps is not None:
            rows = rows[thin_frames(times, self.fps)]
        if self.max_frames is not None and len(rows) > self.max_frames:
            rows = rows[select_frames(len(rows), self.max_frames, self.sampling)]
        if self.order != "ordinary":
            generator = generator or np.random.default_rng(self.seed)
            rows = rows[order_frames(np.arange(len(rows)), self.order, generator)]
        return rows


def select_frames(count: int, limit: int, how: str = "uniform") -> Indices:
    """Choose at most ``limit`` of ``count`` frames.

    Args:
        count: frames there are, 0 or more.
        limit: frames wanted at most, 1 or more.
        how: a name in ``SAMPLERS``; it matters only when there are more than ``limit``.

    Returns:
        int64 [min(count, limit)], rising, without repetition.

    Raises:
        C4CError: ``how`` is unknown, or a number is out of its range.
    """
    import numpy as np

    if how not in SAMPLERS:
        raise C4CError(f"Unknown frame sampling '{how}'. Known: {', '.join(SAMPLERS)}.")
    if count < 0 or limit < 1:
        raise C4CError(f"Cannot take {limit} of {count} frames; expected at least 1 of 0 or more.")
    if count <= limit:
        return np.arange(count, dtype=np.int64)
    return SAMPLERS[how](count, limit)


def rate_of(sampling: str) -> float | None:
    """Frames a second in a fingerprint's line about sampling; ``None``: it names no rate.

    Example:
        >>> rate_of("fps=0.5 max=None uniform")
        0.5
    """
    named = _RATE.search(sampling)
    return float(named[1]) if named and float(named[1]) > 0 else None


def thin_frames(times: npt.NDArray[np.floating[Any]], fps: float) -> Indices:
    """Of more frames those that lie nearest to a grid of ``fps`` frames a second.

    Args:
        times: of the frames, rising, in seconds [n]; the grid begins with the first.
        fps: frames a second, more than 0.

    Returns:
        int64 [m], rising, without repetition; the first frame is among them.

    Example:
        >>> import numpy as np
        >>> thin_frames(np.array([3.0, 3.5, 4.0, 4.5, 5.0]), 1).tolist()
        [0, 2, 4]
    """
    import numpy as np

    if not len(times):
        return np.zeros(0, np.int64)
    seconds = np.asarray(times, np.float64)
    # Frames come a little early or late: the last one too stands for what is half a step away.
    slack = (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1) / 2
    grid = np.arange(seconds[0], seconds[-1] + slack, 1 / fps) if slack else seconds[:1]
    middles = (seconds[1:] + seconds[:-1]) / 2
    return np.unique(np.searchsorted(middles, grid)).astype(np.int64)


def order_frames(
    indices: Indices, how: str = "ordinary", generator: np.random.Generator | None = None
) -> Indices:
    """Put chosen frames in the order a head is to see them.

    Args:
        indices: int64 [n] from ``select_frames``.
        how: a name in ``ORDERS``.
        generator: where ``random`` draws from.

    Returns:
        int64 [n], the same numbers.

    Raises:
        C4CError: ``how`` is unknown, or ``random`` has no generator.
    """
    if how not in ORDERS:
        raise C4CError(f"Unknown frame order '{how}'. Known: {', '.join(ORDERS)}.")
    return ORDERS[how](indices, generator)
