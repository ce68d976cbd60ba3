"""Moments: from windows that score well to start, end and best second, each place once.

The score of a moment is a cosine. A head that sees order gives its best window's own; mean
pooling, to which frames are all there is, the mean cosine of the better half of the moment's
frames. So scores of one head compare across lengths, clips and queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from c4c.heads.base import Head
    from c4c.retrieval.gallery_piece import Named, Piece

# Windows that share more than this much of the shorter one are one moment.
_SAME = 0.5


@dataclass(slots=True)
class Moment:
    """A stretch of a video that answers a query.

    Attributes:
        named: the clip it is in.
        start: in seconds of the video.
        end: likewise; ``None`` is the end of the video.
        best: the second of the frame that fits best; ``None``: a whole clip.
        score: see the module.
        cosine: the same, whatever a tight head makes of the score; by it confidence is told.
        window: piece, clip, first frame and the one after the last, of that window.
        copies: other videos of the same content in which it stands too.
    """

    named: Named
    start: float
    end: float | None
    best: float | None
    score: float
    cosine: float
    window: tuple[int, int, int, int]
    copies: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Taken:
    """A span that was taken: nothing that overlaps it in the same video is another moment."""

    moment: Moment
    content: int
    begin: float  # in the clip
    until: float


def find_moments(
    pieces: Sequence[Piece],
    vector: Tensor,
    ranked: Iterable[tuple[float, int, int]],
    ordered: bool,
    count: int,
    per_video: int | None = None,
    keep: Callable[[Named], bool] = lambda named: True,
) -> list[Moment]:
    """The moments behind one query's windows, best first.

    Args:
        pieces: where the windows are.
        vector: the query, a unit vector [D].
        ranked: score, piece and row of windows, best first.
        ordered: whether the head sees order, so that the window's own score counts.
        count: moments wanted.
        per_video: at most so many of one video.
        keep: whether a clip may answer.
    """
    taken: list[_Taken] = []
    cosines_of: dict[tuple[int, int], npt.NDArray[np.float32]] = {}  # several windows of a clip
    of_video: dict[str, int] = {}
    for score, number, row in ranked:
        piece = pieces[number]
        clip, first, last = piece.spans[row].tolist()
        named = piece.name(clip)
        if per_video is not None and of_video.get(named.path, 0) >= per_video:
            continue
        if not keep(named):
            continue
        frames, times = piece.clip_frames(clip)
        ends = piece.ends(clip)
        content = int(piece.content[clip])
        begin, until = float(times[first]), float(ends[last - 1])
        other = _overlapping(taken, named, content, begin, until)
        if other is not None:
            if named.path != other.named.path and named.path not in other.copies:
                other.copies.append(named.path)
            continue
        if (number, clip) not in cosines_of:
            cosines_of[number, clip] = (frames.float() @ vector).numpy()
        cosines = cosines_of[number, clip]
        moment = _moment(named, cosines, times, ends, (first, last), score, ordered)
        moment.window = (number, clip, first, last)
        taken.append(_Taken(moment, content, begin, until))
        of_video[named.path] = of_video.get(named.path, 0) + 1
        if len(taken) == 2 * count:  # the order by windows is not quite that of moments
            break
    return sorted((one.moment for one in taken), key=lambda moment: -moment.score)[:count]


def _overlapping(
    taken: list[_Taken], named: Named, content: int, begin: float, until: float
) -> Moment | None:
    """The moment that a window shows once more: of the same video, or of a copy of it."""
    for one in taken:
        if one.moment.named.path == named.path:
            shift = named.start - one.moment.named.start
        elif one.content == content:
            shift = 0.0
        else:
            continue
        common = min(until + shift, one.until) - max(begin + shift, one.begin)
        if common > _SAME * min(until - begin, one.until - one.begin):
            return one.moment
    return None


def _moment(
    named: Named,
    cosines: npt.NDArray[np.float32],
    times: npt.NDArray[np.float32],
    ends: npt.NDArray[np.float64],
    span: tuple[int, int],
    score: float,
    ordered: bool,
) -> Moment:
    first, last = tightened(cosines, *span)
    own = cosines[first:last]
    value = score if ordered else float(np.sort(own)[-math.ceil(len(own) / 2) :].mean())
    best = float(times[first + int(own.argmax())])
    start, end = float(times[first]), float(ends[last - 1])
    # The first frame stands for the beginning of its clip, the last one for its end.
    start = 0.0 if first == 0 else start
    end = named.end - named.start if named.end is not None and last == len(times) else end
    return Moment(
        named, named.start + start, named.start + end, named.start + best, value, value, (0,) * 4
    )


def tightened(cosines: npt.NDArray[np.float32], first: int, last: int) -> tuple[int, int]:
    """A window less the frames at its edges that fit the query like the rest of the clip.

    A frame at an edge goes when its cosine is nearer to the mean outside of the window than to
    the mean inside. At least half of the window stays.

    Args:
        cosines: of the query with each frame of the clip, [F].
        first: where the window begins.
        last: the frame after its last.

    Returns:
        The same for what is left.

    Example:
        >>> tightened(np.array([0.1, 0.1, 0.1, 0.8, 0.9, 0.8, 0.2, 0.1]), 2, 7)
        (3, 6)
    """
    others = len(cosines) - (last - first)
    if not others:
        return first, last
    # In float64 the sums of equal cosines are exact, and their means equal.
    inside = float(cosines[first:last].sum(dtype=np.float64))
    mean = inside / (last - first)
    outside = (float(cosines.sum(dtype=np.float64)) - inside) / others
    if outside >= mean:
        return first, last
    least, floor = (last - first + 1) // 2, (outside + mean) / 2
    while last - first > least and cosines[first] < floor:
        first += 1
    while last - first > least and cosines[last - 1] < floor:
        last -= 1
    return first, last


def sees_order(head: Head) -> bool:
    """Whether a head's own score of a window counts: frames alone do not give it."""
    return head.loose and head.sees_order


def pairs(scores: Tensor, pieces: Tensor, rows: Tensor) -> Iterator[tuple[float, int, int]]:
    """Score, piece and row of one query's windows, as ``Gallery.nearest`` gives them."""
    for score, piece, row in zip(scores.tolist(), pieces.tolist(), rows.tolist(), strict=True):
        if piece >= 0:
            yield score, piece, row
