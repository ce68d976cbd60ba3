"""Moments: from windows that score well to start, end and best second, each place once.

The score of a moment is a cosine. A head that sees order gives its best window's own; mean
pooling, to which frames are all there is, the mean cosine of the better half of the moment's
frames. So scores of one head compare across lengths, clips and queries.
"""

from __future__ import annotations

from collections import defaultdict
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
    alike: dict[str | int, list[_Taken]] = defaultdict(list)  # by path, and by content
    cosines_of: dict[tuple[int, int], _Cosines] = {}  # several windows of a clip
    of_video: dict[str, int] = {}
    for score, number, row in ranked:
        piece = pieces[number]
        clip, first, last = piece.spans[row].tolist()
        named = piece.name(clip)
        if per_video is not None and of_video.get(named.path, 0) >= per_video:
            continue
        if not keep(named):
            continue
        times, ends = piece.clip_times(clip)
        content = int(piece.content[clip])
        begin, until = float(times[first]), float(ends[last - 1])
        shown = alike[named.path], alike[content]
        other = _overlapping(*shown, named, begin, until)
        if other is not None:
            if named.path != other.named.path and named.path not in other.copies:
                other.copies.append(named.path)
            continue
        cosines = cosines_of.get((number, clip))
        if cosines is None:
            cosines = cosines_of[number, clip] = _Cosines(piece.clip_frames(clip)[0], vector)
        moment = _moment(named, cosines, times, ends, (first, last), score, ordered)
        moment.window = (number, clip, first, last)
        taken.append(_Taken(moment, begin, until))
        for own in shown:
            own.append(taken[-1])
        of_video[named.path] = of_video.get(named.path, 0) + 1
        if len(taken) == 2 * count:  # the order by windows is not quite that of moments
            break
    return sorted((one.moment for one in taken), key=lambda moment: -moment.score)[:count]


class _Cosines:
    """Of a query with each frame of a clip: as numbers, for a few frames are looked at a time."""

    def __init__(self, frames: Tensor, vector: Tensor) -> None:
        every = (frames.float() @ vector).numpy()
        # In float64 the sums of equal cosines are exact, and their means equal.
        wide = every.astype(np.float64)
        self.of, self.sums = every.tolist(), (float(wide.sum()), float(wide @ wide))


def _overlapping(
    video: list[_Taken], content: list[_Taken], named: Named, begin: float, until: float
) -> Moment | None:
    """The moment that a window shows once more: of its own video, or of a copy of it."""
    for one in video:
        shift = named.start - one.moment.named.start
        if _is_same(one, begin + shift, until + shift):
            return one.moment
    for one in content:
        if one.moment.named.path != named.path and _is_same(one, begin, until):
            return one.moment
    return None


def _is_same(one: _Taken, begin: float, until: float) -> bool:
    first = begin if begin > one.begin else one.begin
    last = until if until < one.until else one.until
    if last <= first:  # most do not touch
        return False
    return last - first > _SAME * min(until - begin, one.until - one.begin)


def _moment(
    named: Named,
    cosines: _Cosines,
    times: npt.NDArray[np.float32],
    ends: npt.NDArray[np.float64],
    span: tuple[int, int],
    score: float,
    ordered: bool,
) -> Moment:
    first, last = tightened(cosines.of, *span, cosines.sums)
    own = cosines.of[first:last]
    if not ordered:
        better = sorted(own, reverse=True)[: (len(own) + 1) // 2]
        score = sum(better) / len(better)
    best = float(times[first + own.index(max(own))])
    # The first frame stands for the beginning of its clip, the last one for its end.
    start = float(times[first]) if first else 0.0
    end = float(ends[last - 1])
    if named.end is not None and last == len(times):
        end = named.end - named.start
    begin = named.start
    return Moment(named, begin + start, begin + end, begin + best, score, score, (0,) * 4)


def tightened(
    cosines: Sequence[float],
    first: int,
    last: int,
    sums: tuple[float, float] | None = None,
) -> tuple[int, int]:
    """A window less the frames at its edges that fit the query like the rest of the clip.

    A frame at an edge goes when its cosine is nearer to the mean outside of the window than to
    the mean inside. At least half of the window stays; and all of it, where single frames do not
    tell: the two means must differ by more than cosines deviate from theirs.

    Args:
        cosines: of the query with each frame of the clip, F of them.
        first: where the window begins.
        last: the frame after its last.
        sums: of all cosines and of their squares; ``None`` adds them up.

    Returns:
        The same for what is left.

    Example:
        >>> tightened([0.1, 0.1, 0.1, 0.8, 0.9, 0.8, 0.2, 0.1], 2, 7)
        (3, 6)
    """
    others = len(cosines) - (last - first)
    if not others:
        return first, last
    inside = sum(cosines[first:last])
    mean = inside / (last - first)
    total, squares = sums or (sum(cosines), sum(one * one for one in cosines))
    outside = (total - inside) / others
    within = squares - (last - first) * mean**2 - others * outside**2  # from their own means
    if outside >= mean or within >= len(cosines) * (mean - outside) ** 2:
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
