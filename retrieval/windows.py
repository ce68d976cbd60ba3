"""Windows: which stretches of a clip get a vector of their own, as ranges of its frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.limits import require_within

# A frame jumps when its cosine with the one before falls short of 1 by more than this, and by
# more than so many times what the steps right before and after do: whatever moves does so for
# several frames, a cut comes between two.
_JUMP, _UNUSUAL = 0.2, 3.0
_EPSILON = 1e-3  # seconds: times are float32


@dataclass(frozen=True, slots=True)
class Windows:
    """Lengths of windows, and how far apart they begin.

    Attributes:
        lengths: in seconds.
        hop: seconds from one window to the next; ``None`` is one second, or a quarter of the
            length where that is shorter.
    """

    lengths: tuple[float, ...] = (4.0, 8.0, 16.0)
    hop: float | None = None

    def __post_init__(self) -> None:
        if not self.lengths:
            raise C4CError("--window needs a length in seconds.")
        for length in self.lengths:
            require_within("window", length, 0.1, 86400)
        require_within("hop", self.hop, 0.05, 86400)


def shot_changes(frames: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The frames that begin another shot.

    Args:
        frames: unit vectors [F, D] in order.

    Returns:
        Places in ``frames``, rising; never 0.
    """
    if len(frames) < 3:  # one step has no others to stand out from
        return np.zeros(0, np.int64)
    steps = 1 - np.einsum("fd,fd->f", frames[1:], frames[:-1])
    around = np.pad(steps, 1)
    usual = np.maximum(around[:-2], around[2:])
    return np.flatnonzero(steps > np.maximum(_JUMP, _UNUSUAL * usual)) + 1


def frame_ends(times: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Where each frame stops being shown: when the next one comes, or a usual step later."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    return np.append(times[1:], times[-1:] + step).astype(np.float64)


def cut_windows(
    times: npt.NDArray[np.float32], shots: npt.NDArray[np.int64], windows: Windows
) -> npt.NDArray[np.int32]:
    """The windows of one clip.

    A window whose edge lies within a hop of a shot change begins or ends there instead, so that
    none has a sliver of another shot at its edge; a change in the middle stays, for what is
    asked for may go on across it. Single shots are windows too, and so is a clip that is not
    longer than the longest window.

    Args:
        times: of the clip's frames [F], rising, in seconds.
        shots: frames that begin another shot (``shot_changes``).
        windows: lengths and hop.

    Returns:
        int32 [n, 2]: first frame and the one after the last, each window once, in order; at
        least one window for a clip with frames.
    """
    count = len(times)
    begin, end = float(times[0]), float(frame_ends(times)[-1])
    spans: set[tuple[int, int]] = set()
    for length in windows.lengths:
        hop = windows.hop or min(1.0, length / 4)
        latest = max(begin, end - length)
        starts = np.append(np.arange(begin, latest, hop), latest)
        first = np.searchsorted(times, starts - _EPSILON)
        last = np.searchsorted(times, starts + length - _EPSILON)
        pairs = zip(first.tolist(), last.tolist(), strict=True)
        spans |= {_snapped(a, b, times, shots, hop) for a, b in pairs if a < b}
    edges = [0, *shots.tolist(), count]
    longest = max(windows.lengths)
    for a, b in [*zip(edges, edges[1:], strict=False), (0, count)]:
        if float(times[b - 1] - times[a]) < longest:
            spans.add((a, b))
    return np.array(sorted(spans), np.int32).reshape(-1, 2)


def _snapped(
    first: int,
    last: int,
    times: npt.NDArray[np.float32],
    shots: npt.NDArray[np.int64],
    hop: float,
) -> tuple[int, int]:
    """A window whose edges are at shot changes that are less than a hop away."""
    if not len(shots):
        return first, last
    ends = np.append(times, frame_ends(times)[-1])
    moved = []
    for edge in (first, last):
        near = shots[int(np.abs(ends[shots] - ends[edge]).argmin())]
        at_end = edge in (0, len(times))
        moved.append(int(near) if abs(ends[near] - ends[edge]) < hop and not at_end else edge)
    return (moved[0], moved[1]) if moved[0] < moved[1] else (first, last)
