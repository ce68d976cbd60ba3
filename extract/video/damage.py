"""What was damaged in a video, and which frames may suffer from it.

A frame may be predicted from any packet since the last key frame that is not shown after it. It
is trusted when none of those packets was damaged. Where that shows only later, since each frame
goes on with the statistics of the one before, nothing is trusted up to the next key frame.
"""

from __future__ import annotations

import bisect
from typing import Any

# Codecs whose every packet gives a frame: one that is not given was lost.
_FAITHFUL = ("h264", "hevc", "libdav1d", "av1")
_CHAINED = ("libdav1d", "av1")
_NEVER = -(1 << 62)


class Damage:
    """Keeps account of packets as they are sent to the decoder, and of errors.

    Args:
        codec: the decoder's name.
        timed: whether packets hold the time at which their frame is shown.
        known: what was found when the same packets were decoded before; then nothing is trusted
            that may suffer from it.
    """

    def __init__(self, codec: str, timed: bool, known: Damage | None = None) -> None:
        self.codec, self.timed, self.known = codec, timed, known
        self.errors = 0
        self.last = ""
        self._count = self._epoch = 0
        self._before = _NEVER  # decoding time stamp of the last packet
        self._sent: dict[int, tuple[int, int]] = {}  # time stamp: epoch, place
        self._keys: list[tuple[int, int, int]] = []  # place, epoch, time stamp
        self._bad: list[int] = []  # places, ascending
        self._pending: set[int] = set()  # time stamps of frames that have to come
        self._first: int | None = None  # time stamp of the first that did

    def sent(self, packet: Any) -> None:
        """A packet goes to the decoder."""
        if packet.dts is not None:
            if packet.dts < self._before:  # time stamps begin anew
                self._epoch += 1
                self._pending, self._first = set(), None
            self._before = packet.dts
        self._count += 1
        if packet.pts is None or not packet.size:
            return
        self._sent[packet.pts] = self._epoch, self._count
        if packet.is_keyframe:
            self._keys.append((self._count, self._epoch, packet.pts))
        if self.timed and self.codec in _FAITHFUL and not packet.is_discard:
            self._pending.add(packet.pts)

    def note(self, words: str, stamp: int | None = None) -> None:
        """Count an error in the packet of a time stamp; without one, in the last."""
        self.errors += 1
        self.last = words
        bisect.insort(self._bad, self._place(stamp)[1])

    def _place(self, stamp: int | None) -> tuple[int, int]:
        here = self._epoch, self._count
        return here if stamp is None else self._sent.get(stamp, here)

    def undecodable(self, words: str, stamp: int | None) -> None:
        """The packet that was sent last gave an error and not its frame."""
        self.note(words)
        if self.timed and stamp is not None:
            self._pending.add(stamp)

    def lost(self, stamp: int | None) -> list[int]:
        """A frame came out: time stamps of those that should have come before it."""
        if stamp is None or self._place(stamp)[0] != self._epoch:
            return []
        missed = {one for one in self._pending if one < stamp}
        self._pending -= {*missed, stamp}
        # What lies before the first frame may lack what it is predicted from.
        self._first = stamp if self._first is None else self._first
        return sorted(one for one in missed if one > self._first)

    def lost_at_the_end(self) -> list[int]:
        """No frame comes any more: time stamps of those that should have."""
        return sorted(self._pending) if self._first is not None else []

    def spoils(self, stamp: int | None) -> bool:
        """Whether the frame of a time stamp may suffer from what is known."""
        if self.known is None or not self.known.errors:
            return False
        epoch, place = self._place(stamp)
        begin, end = self._segment(epoch, place, stamp)
        reach = end if self.codec in _CHAINED else place
        bad = self.known._bad
        following = bisect.bisect_left(bad, begin)
        return following < len(bad) and bad[following] <= reach

    def _segment(self, epoch: int, place: int, stamp: int | None) -> tuple[int, int]:
        """Places of the first and last packet that hang together with a frame's."""
        keys = (self.known or self)._keys
        after = bisect.bisect_right(keys, (place, epoch, 1 << 62))
        end = keys[after][0] - 1 if after < len(keys) else 1 << 62
        for number in range(after - 1, -1, -1):
            at, when, shown = keys[number]
            if when < epoch or stamp is None or shown <= stamp:
                return at, end
        return 0, end
