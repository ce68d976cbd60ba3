"""Which seconds of a video a clip wants pictures of, and from where they count.

A clip of a whole video begins with its first picture. A span counts as players and ffmpeg do,
from where the file begins, be it with sound alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from c4c.core.limits import MOST_FRAMES
from c4c.core.records import Clip
from c4c.core.sampling import select_frames
from c4c.extract.video.ending import cut_off
from c4c.extract.video.length import length_of
from c4c.extract.video.opening import Refused, Video

_EPSILON = 1e-3  # seconds: time stamps are rounded to the container's ticks


@dataclass(frozen=True, slots=True)
class Wanted:
    """The seconds that a clip wants pictures of.

    Attributes:
        times: ascending seconds; at least one.
        origin: the time stamp, in seconds, that they count from; ``None`` is the first picture's.
        until: second up to which the last picture surely stays on display; 0 is unknown.
        beyond: says so when the clip's span goes beyond the video.
        cut: says so when the file was cut, so that nobody knows what would follow.
    """

    times: npt.NDArray[np.float64]
    origin: float | None = None
    until: float = 0.0
    beyond: str = ""
    cut: str = ""

    @property
    def lacks(self) -> bool:
        """Whether pictures that the clip should have lie beyond the end of the file."""
        return bool(self.beyond or self.cut)


def wanted_times(
    video: Video, clip: Clip, fps: float, max_frames: int | None, sampling: str
) -> Wanted:
    """The seconds of ``clip`` to take.

    Args:
        video: just opened.
        clip: the stretch of it.
        fps: pictures a second; ``max_frames`` of them at most, which ones says ``sampling``.
        max_frames: ``None`` is all.
        sampling: as in ``select_frames``.

    Raises:
        Refused: they are too many.
    """
    length = length_of(video, clip.path)
    before = lead(video, clip)
    end = before + length.seconds
    stop = end if clip.end is None else min(end, clip.end)
    count = _count(stop - clip.start, fps)
    chosen = count if max_frames is None else min(count, max_frames)
    if chosen > MOST_FRAMES:
        raise Refused(
            f"claims {stop:.0f} s, {chosen} frames; pass --max-frames {MOST_FRAMES} or fewer"
        )
    times = clip.start + select_frames(count, chosen, sampling) / fps
    origin = float(video.container.start_time / 1e6) if before else None
    held = end if length.held else 0.0
    beyond = _beyond(clip, end, count, fps)
    # The first of many frames are the same however much was cut off, and so is a span before it.
    settled = clip.end is not None or (sampling == "head" and chosen < count)
    cut = "" if settled else cut_off(clip.path, video.container.format.name)
    return Wanted(times, origin, held, beyond, cut and f"the file was cut: it ends within {cut}")


def lead(video: Video, clip: Clip) -> float:
    """Seconds between the start that a clip's times count from and the first picture."""
    start, first = video.container.start_time, video.stream.start_time
    if (clip.start == 0 and clip.end is None) or start is None or first is None:
        return 0.0
    return max(0.0, float(first * video.stream.time_base) - float(start / 1e6))


def _count(seconds: float, fps: float) -> int:
    return max(1, int(np.ceil(seconds * fps - _EPSILON)))


def _beyond(clip: Clip, end: float, count: int, fps: float) -> str:
    if clip.start >= end:
        return f"the span begins at {clip.start:g} s, the video ends at {end:.2f} s"
    if clip.end is not None and _count(clip.end - clip.start, fps) > count:
        return f"the span ends at {clip.end:g} s, the video at {end:.2f} s"
    return ""
