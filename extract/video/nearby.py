"""Frames where they are cheap: near the wanted seconds, or key frames (``--frame-mode``).

A key frame is decoded alone; any other frame needs those between it and the key frame before
it, but for frames that nothing is predicted from. So of each group of pictures, a key frame and
what follows it, no more is decoded than up to the last frame that is taken, and none of those
where none is. Where time stamps promise nothing ``Unsure`` is raised, as in ``sparse.py``.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from c4c.core.records import Clip
from c4c.extract.video.length import stays
from c4c.extract.video.opening import Video
from c4c.extract.video.packets import SHORTEST, TOLERANCE, Packets, Unsure
from c4c.extract.video.span import Wanted

_MOST_PACKETS, _MOST_BYTES = 1 << 16, 1 << 28  # of a group of pictures, which is held


@dataclass(frozen=True, slots=True)
class Near:
    """Of each second the key frame, else the frame that others follow from, within a tolerance.

    Attributes:
        tolerance: seconds.
    """

    tolerance: float

    def choose(self, group: _Group, seconds: float) -> float:
        """When the frame to take for ``seconds`` is shown; at that second, when none is cheap."""
        for times in (group.keys, group.forward):
            nearest = _nearest(times, seconds)
            if nearest is not None and abs(nearest - seconds) <= self.tolerance:
                return nearest
        return group.displayed(seconds)


@dataclass(frozen=True, slots=True)
class Keys:
    """Of each second the key frame next to it, and what is needed where these are far apart.

    Attributes:
        gap: seconds; a longer gap is divided evenly into as few parts as keep to it.
    """

    gap: float

    def choose(self, group: _Group, seconds: float) -> float:
        """When the frame to take for ``seconds`` is shown."""
        begin, length = group.begin, group.end - group.begin
        parts = max(1, math.ceil(length / self.gap - TOLERANCE))
        # A clip that begins within a group, and has no key frame of its own, has its first frame.
        between = [begin + part * length / parts for part in range(bool(group.keys), parts)]
        times = [*group.keys, *map(group.displayed, between)]
        nearest = _nearest(times, seconds)
        return group.displayed(seconds) if nearest is None else nearest


def nearby_frames(
    video: Video, wanted: Wanted, clip: Clip, choice: Near | Keys
) -> Iterator[tuple[Any, float]]:
    """A clip's frames near the wanted times, none of them twice.

    Args:
        video: just opened.
        wanted: the times.
        clip: no frame is taken from outside of it, unless it shows at its start.
        choice: which frame is taken for a time.

    Yields:
        (The frame, seconds from the clip's start at which it begins to show), in order.

    Raises:
        Unsure: something is out of the ordinary; what was yielded may be wrong.
    """
    import av

    if not video.timed:
        raise Unsure
    try:
        yield from _Nearby(video, wanted, clip, choice).frames()
    except av.error.FFmpegError as error:
        raise Unsure from error


def _nearest(times: list[float], seconds: float) -> float | None:
    return min(times, key=lambda time: abs(time - seconds), default=None)


@dataclass(frozen=True, slots=True)
class _Group:
    """A group of pictures, its times in seconds on the line that the wanted times are on.

    Attributes:
        packets: its key frame, and what follows in decoding order.
        stamps: time stamps by time, ascending; of the next group's key frame too.
        shown: times of its own frames, ascending.
        keys: those of its key frame and of the next one, as far as they are the clip's.
        forward: of the clip's own frames those that no later packet is shown before.
        begin: from when it shows, or the clip.
        end: until when.
        until: when the next group begins to show.
    """

    packets: list[Any]
    stamps: dict[float, int]
    shown: list[float]
    keys: list[float]
    forward: list[float]
    begin: float
    end: float
    until: float

    def displayed(self, seconds: float) -> float:
        """When the frame appeared that is on display at ``seconds``."""
        return self.shown[max(0, bisect.bisect_right(self.shown, seconds + TOLERANCE) - 1)]


class _Nearby(Packets):
    """Reads a group of pictures, chooses from it, and decodes what was chosen."""

    def __init__(self, video: Video, wanted: Wanted, clip: Clip, choice: Near | Keys) -> None:
        super().__init__(video)
        self.wanted, self.choice, self.start = wanted, choice, clip.start
        self.stop = math.inf if clip.end is None else clip.end
        self.origin = 0.0

    def frames(self) -> Generator[tuple[Any, float], None, None]:
        """See ``nearby_frames``."""
        first = self.first()
        self.origin = self.seconds(first) if self.wanted.origin is None else self.wanted.origin
        left = deque(self.wanted.times.tolist())
        chosen: list[float] = []  # times of frames to take that are not decoded yet
        latest = -math.inf
        while left or chosen:
            if not chosen:
                self._skip(max(first, self.ticks(self.origin, left[0])))
            group = self._group()
            while left and left[0] + TOLERANCE < group.until:
                time = self.choice.choose(group, left.popleft())
                if time > latest:  # none is taken twice
                    chosen.append(time)
                    latest = time
            own = [time for time in chosen if time <= group.shown[-1]]
            chosen = chosen[len(own) :]  # the next key frame
            yield from self._decoded(group.packets, {group.stamps[time] for time in own})

    def _skip(self, limit: int) -> None:
        """Go to the group that a time stamp is in, when it is far."""
        if self.far(limit):
            self.seek(limit)

    def _time(self, stamp: int) -> float:
        return self.seconds(stamp) - self.origin

    def _group(self) -> _Group:
        """The next group of pictures."""
        if not self.held and not self.read():
            raise Unsure
        packets = [self.held.popleft()]
        size = packets[0].size
        while (self.held or self.read()) and not self.held[0].is_keyframe:
            packets.append(self.held.popleft())
            size += packets[-1].size
            if len(packets) > _MOST_PACKETS or size > _MOST_BYTES:
                raise Unsure
        return self._described(packets, self.held[0] if self.held else None)

    def _described(self, packets: list[Any], following: Any) -> _Group:
        # What is shown before its key frame is predicted from the group before, too.
        key = packets[0].pts
        own = [one.pts for one in packets if one.pts >= key and not one.is_discard]
        if not own or len(set(own)) < len(own) or (following and following.pts <= max(own)):
            raise Unsure
        stamps = {self._time(stamp): stamp for stamp in sorted(own)}
        shown = list(stamps)
        until = self._time(following.pts) if following else self._end(shown)
        if following:
            stamps[until] = following.pts
        latest = itertools.accumulate(own, max)
        forward = [stamp for stamp, most in zip(own, latest, strict=True) if stamp == most]
        keys = [one.pts for one in (packets[0], following) if one and not one.is_discard]
        return _Group(
            packets,
            stamps,
            shown,
            self._inside(keys),
            self._inside(forward),
            max(shown[0], self.start),
            min(until, self.stop),
            until,
        )

    def _end(self, shown: list[float]) -> float:
        """Until when the last frame stays: what it says, and as long as others of its group."""
        steps = [b - a for a, b in itertools.pairwise(shown)]
        own = stays(self.video, self.final[1])
        return shown[-1] + max(own, SHORTEST, *steps) + 2 * TOLERANCE

    def _inside(self, stamps: list[int]) -> list[float]:
        """Times of those that are the clip's."""
        times = map(self._time, stamps)
        return [time for time in times if self.start - TOLERANCE <= time < self.stop]

    def _decoded(
        self, packets: list[Any], stamps: set[int]
    ) -> Generator[tuple[Any, float], None, None]:
        """The frames of these time stamps; nothing is decoded that they do not need."""
        if not stamps:
            return
        unsent, missing = set(stamps), set(stamps)
        self.codec.flush_buffers()
        for packet in [*packets, None]:
            if packet is not None:
                if packet.pts < packets[0].pts or not unsent:
                    continue
                self.codec.skip_frame = "DEFAULT" if packet.pts in unsent else "NONREF"
                unsent.discard(packet.pts)
            for frame in self.codec.decode(packet):
                if frame.is_corrupt or frame.pts is None:
                    raise Unsure
                if frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame, max(0.0, self._time(frame.pts) - self.start)
        if missing:
            raise Unsure
