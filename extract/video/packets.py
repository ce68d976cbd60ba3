"""The packets of a video on their way to the decoder, and what makes their time stamps doubtful."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from c4c.extract.video.nal import Holes
from c4c.extract.video.opening import Video

TOLERANCE = 1e-3  # seconds: time stamps are rounded to the container's ticks
SHORTEST = 1 / 25  # seconds that the last frame stays on display, at least
NEVER = -(1 << 62)
_REORDERING = 32  # packets: more than any codec holds a frame back
_FAR = 20.0  # seconds: from here on a seek is quicker than reading what lies between
_SEEKABLE = ("mov", "matroska")  # and an index that can be trusted


class Unsure(Exception):
    """The time stamps promise nothing; everything has to be decoded."""


class Packets:
    """Reads a video's packets, those that were not dealt with yet into ``held``.

    Args:
        video: just opened.

    Attributes:
        held: packets in decoding order.
        ended: whether there are no more.
        read_to: decoding time stamp of the last packet.
        final: time stamp of the frame that is shown last, and the ticks that it says it stays.
    """

    def __init__(self, video: Video) -> None:
        self.video, self.codec = video, video.codec
        self.container, self.stream = video.container, video.stream
        self.base, self.holes = video.stream.time_base, Holes(video.codec)
        self.packets: Iterator[Any] = self.container.demux(self.stream)
        self.ended = False
        self.read_to = NEVER
        self.held: deque[Any] = deque()
        self.final = (NEVER, 0)

    def first(self) -> int:
        """The time stamp of the first frame that is shown."""
        while len(self.held) < _REORDERING and self.read():
            pass
        shown = [packet.pts for packet in self.held if not packet.is_discard]
        if not shown or not self.held[0].is_keyframe:
            raise Unsure
        # What is shown before the first key frame may not be decodable.
        if min(shown) != self.held[0].pts and not self.held[0].is_discard:
            raise Unsure
        return int(min(shown))

    def seconds(self, stamp: int) -> float:
        """The seconds of a time stamp."""
        return float(stamp * self.base.numerator / self.base.denominator)

    def ticks(self, origin: float, seconds: float) -> int:
        """The last time stamp that is not after ``seconds``, as decoding everything sees it."""
        found = int((origin + seconds + TOLERANCE) / self.base) + 2
        while self.seconds(found) - origin > seconds + TOLERANCE:
            found -= 1
        return found

    def read(self) -> bool:
        """Hold one packet more; whether there was one."""
        packet = None if self.ended else next(self.packets, None)
        if packet is None or not packet.size:
            self.ended = True
            return False
        if packet.is_corrupt or packet.pts is None or self.holes.found(packet):
            raise Unsure
        if packet.has_sidedata("encryption_info"):
            raise Unsure
        if packet.dts is not None:
            if packet.dts < self.read_to:  # time stamps began again
                raise Unsure
            self.read_to = packet.dts
        if not packet.is_discard:
            self.final = max(self.final, (packet.pts, packet.duration or 0))
        self.held.append(packet)
        return True

    def far(self, limit: int) -> bool:
        """Whether a seek to a time stamp is worth its while."""
        named = self.container.format.name.startswith(_SEEKABLE)
        return named and not self.ended and limit - self.read_to > _FAR / self.base

    def seek(self, limit: int) -> None:
        """Go on reading at the last key frame that is not after ``limit``."""
        self.container.seek(limit, stream=self.stream, backward=True)
        self.packets = self.container.demux(self.stream)
        self.held.clear()
        self.read_to = NEVER
        if not self.read() or not self.held[0].is_keyframe or self.held[0].pts > limit:
            raise Unsure
