"""Holes in H.264 and HEVC: data that no encoder writes, which decoders conceal without a word.

Three zero bytes never stand inside a picture's data (the standards' emulation prevention). So
zeros tell of a sector that was lost, or of a download that never filled it.
"""

from __future__ import annotations

from typing import Any

_HOLE = b"\0\0\0"


class Holes:
    """Looks into packets whose units carry their lengths, as in MP4 and Matroska.

    Args:
        codec: what decodes them; other codecs and other packings have no holes to be found.
    """

    def __init__(self, codec: Any) -> None:
        self.length, self.hevc = 0, codec.name == "hevc"
        self._before: tuple[int | None] | None = None  # stamp of a packet that ends in zeros
        extra = bytes(codec.extradata or b"")
        if extra[:1] == b"\1" and codec.name == "h264" and len(extra) > 6:
            self.length = (extra[4] & 3) + 1
        if extra[:1] == b"\1" and self.hevc and len(extra) > 22:
            self.length = (extra[21] & 3) + 1

    def found(self, packet: Any) -> list[int | None]:
        """Time stamps of packets with a hole: this one, and the one before when it begins there.

        Zeros at the end of a packet alone may be padding.
        """
        if not self.length or not packet.size:
            return []
        data = bytes(packet)
        before, self._before = self._before, None
        if data.endswith(_HOLE):
            self._before = (packet.pts,)
        if not int.from_bytes(data[: self.length], "big"):
            return [*(before or ()), packet.pts]
        return [packet.pts] if _HOLE in data and self._inside(data) else []

    def _inside(self, data: bytes) -> bool:
        place = 0
        while place + self.length < len(data):
            start = place + self.length
            place = start + int.from_bytes(data[place:start], "big")
            unit = data[start:place].rstrip(b"\0")
            if unit and self._is_picture(unit[0]) and _HOLE in unit:
                return True
        return False

    def _is_picture(self, heading: int) -> bool:
        return (heading >> 1 & 63) < 32 if self.hevc else 1 <= (heading & 31) <= 5
