"""The frames at wanted times, without decoding those in between that nothing needs.

Packets tell when each frame is shown before anything is decoded. So it is known which frames
are wanted; of the others, those that no frame is predicted from are skipped, and so is what
lies before a key frame on the way. The frames are those of decoding everything, to the bit.
Where the time stamps do not promise that, ``Unsure`` is raised, and everything is decoded
instead: this file makes things faster, it decides nothing about what is right.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

from c4c.extract.video.length import stays
from c4c.extract.video.opening import Video
from c4c.extract.video.packets import NEVER, SHORTEST, TOLERANCE, Packets, Unsure
from c4c.extract.video.span import Wanted


def sparse_frames(video: Video, wanted: Wanted) -> Iterator[Any]:
    """The frame on display at each wanted time: the last that is not after it.

    Args:
        video: just opened.
        wanted: the times; before the first frame, that one is taken.

    Yields:
        A frame (as PyAV gives it) for each wanted time, in order.

    Raises:
        Unsure: something is out of the ordinary; what was yielded may be wrong.
    """
    import av

    if not video.timed:
        raise Unsure
    try:
        yield from _Sparse(video, wanted).frames()
    except av.error.FFmpegError as error:
        raise Unsure from error


class _Sparse(Packets):
    """Packets are read into ``held`` until it is known what is wanted of them, then decoded."""

    def __init__(self, video: Video, wanted: Wanted) -> None:
        super().__init__(video)
        self.wanted = wanted
        self.unsent: set[int] = set()  # time stamps of wanted frames in ``held``
        self.awaited: deque[int] = deque()  # and of all that were not given yet
        self.early: dict[int, Any] = {}  # frames decoded before it is known if they are wanted
        self.limit = self.last = NEVER  # the last time looked for, the frame on display then
        self.restart = False  # the decoder begins anew at the first of ``held``
        self.out = NEVER  # time stamp of the frame that the decoder gave last

    def frames(self) -> Generator[Any, None, None]:
        """See ``sparse_frames``."""
        first = self.first()
        origin = self.seconds(first) if self.wanted.origin is None else self.wanted.origin
        for seconds in self.wanted.times.tolist():
            limit = max(first, self.ticks(origin, seconds))
            if self.far(limit):
                yield from self._finish()
                self.seek(limit)
            self._find(limit)
            yield from self._given()
            while self.held and (self.unsent or self.held[0].pts <= limit):
                yield from self._decode(self.held.popleft())
        yield from self._finish()
        if self.awaited:
            raise Unsure

    def _find(self, limit: int) -> None:
        """Which frame is on display at ``limit``: read on until none can come before it."""
        while self.read_to <= limit and self.read():
            self._leave_out(limit)
        shown = [packet.pts for packet in self.held if not packet.is_discard]
        inside = [stamp for stamp in shown if stamp <= limit]
        inside += [stamp for stamp in (*self.early, self.last) if NEVER < stamp <= limit]
        if not inside:
            raise Unsure
        found = max(inside)
        if shown.count(found) > 1 or (self.ended and limit > self._end(found, shown)):
            raise Unsure
        if found in shown:
            self.unsent.add(found)
        self.last, self.limit = found, limit
        self.awaited.append(found)

    def _end(self, found: int, shown: list[int]) -> int:
        """Until when the last frame stays: what it says, and as long as others of those known."""
        stamps = sorted({*shown, *self.early})
        steps = [b - a for a, b in itertools.pairwise(stamps)]
        own = stays(self.video, self.final[1] if self.final[0] == found else 0)
        return found + int(max([(max(own, SHORTEST) + TOLERANCE) / self.base, *steps]))

    def _leave_out(self, limit: int) -> None:
        """Forget what lies before a key frame, when the frame looked for does not."""
        packet = self.held[-1]
        if not packet.is_keyframe or packet.is_discard or packet.pts > limit or self.unsent:
            return
        if len(self.held) > 1 and max(p.pts for p in self.held if p is not packet) < packet.pts:
            self.held = deque([packet])
            self.restart = True

    def _decode(self, packet: Any) -> Generator[Any, None, None]:
        if self.restart:
            yield from self._finish()
            self.codec.flush_buffers()
            self.restart = False
        undecided = packet.pts > self.limit
        if undecided and not packet.is_discard:
            self.early[packet.pts] = None
        needed = undecided or packet.pts in self.unsent
        self.codec.skip_frame = "DEFAULT" if needed else "NONREF"
        self.unsent.discard(packet.pts)
        for frame in self.codec.decode(packet):
            yield from self._take(frame)

    def _finish(self) -> Generator[Any, None, None]:
        """Take what the decoder holds back."""
        for frame in self.codec.decode(None):
            yield from self._take(frame)

    def _take(self, frame: Any) -> Generator[Any, None, None]:
        if frame.is_corrupt or frame.pts is None or frame.pts <= self.out:
            raise Unsure
        self.out = frame.pts
        if frame.pts in self.early or frame.pts in self.awaited:
            self.early[frame.pts] = frame
            yield from self._given()

    def _given(self) -> Generator[Any, None, None]:
        """Give what is there of the awaited frames, in order; forget what is past."""
        while self.awaited and self.early.get(self.awaited[0]) is not None:
            yield self.early[self.awaited.popleft()]
        oldest = min([*self.awaited, self.last])
        self.early = {stamp: one for stamp, one in self.early.items() if stamp >= oldest}
