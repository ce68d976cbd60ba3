"""Whether a file that says nowhere how long it is was cut: it then ends in the middle of something.

MPEG-TS and MPEG-PS are packets to the end, so that a cut between two of them leaves no trace, and
neither does one between two fragments of an MP4. Ogg and GIF say where they end.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_TAIL = 1 << 17  # bytes: more than the largest Ogg page or PES packet
_TS = (188, 192, 204)  # bytes from packet to packet: plain, with arrival times, with parity
_TS_BODY = {188: 188, 192: 188, 204: 204}  # bytes of one from its sync byte on
_TS_RUN = 10  # sync bytes in a row that are no chance
_OGG_END = 4  # flag of a stream's last page
_PREFIX = b"\x00\x00\x01"
_PACK, _PROGRAM_END = _PREFIX + b"\xba", 0xB9
_GIF_HEADER = 13  # bytes before the colours
_GIF_COLOURS = 0x80  # flag: a table of them follows


def cut_off(path: str, container: str) -> str:
    """In what a file ends when it was cut; empty when it was not, or that cannot be told.

    Args:
        path: of the file.
        container: FFmpeg's name of its format.
    """
    kind = container.split(",")[0]
    with open(path, "rb") as file:
        if kind in ("gif", "mov"):
            return {"gif": _gif, "mov": _mp4}[kind](file)
        if kind in ("mpegts", "mpeg", "ogg"):
            file.seek(-min(_TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return {"mpegts": _ts, "mpeg": _ps, "ogg": _ogg}[kind](file.read())
    return ""


def _ts(tail: bytes) -> str:
    """MPEG-TS: packets of one size, each of which begins with a sync byte."""
    for size in _TS:
        near = tail[-(_TS_RUN + 1) * size :]
        for start in range(min(size, len(near))):
            syncs = near[start::size]
            if len(syncs) >= _TS_RUN and not syncs.strip(b"\x47"):
                last = start + (len(syncs) - 1) * size
                return "a packet" if len(near) - last < _TS_BODY[size] else ""
    return ""


def _ps(tail: bytes) -> str:
    """MPEG-PS: packs of packets, each of which says its length: passed from one to the next."""
    start = tail.find(_PACK)
    while 0 <= start <= len(tail) - 4:
        known = tail.startswith(_PREFIX, start) and tail[start + 3] >= _PROGRAM_END
        # What is none was no pack but sound that looks like one, or lies behind the last packet.
        start = start + _ps_size(tail, start) if known else tail.find(_PACK, start)
    return "" if start in (-1, len(tail)) else "a packet"


def _ps_size(data: bytes, start: int) -> int:
    """Bytes of a packet or of a pack's header; at least what is left where its size was cut off."""
    head = data[start : start + 14].ljust(14, b"\xff")
    if head[3] == _PROGRAM_END:
        return 4
    if head[3] != _PACK[3]:
        return 6 + int.from_bytes(head[4:6], "big")
    return 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12  # MPEG-1's begins with other bits


def _ogg(tail: bytes) -> str:
    """Ogg: pages, the last one of a stream marked so; whichever is last in the file is."""
    start = tail.rfind(b"OggS")
    if start < 0:
        return ""
    head = tail[start : start + 27]
    if len(head) < 27:
        return "a page"
    lacing = tail[start + 27 : start + 27 + head[26]]
    whole = len(lacing) == head[26] and len(tail) - start >= 27 + head[26] + sum(lacing)
    if not whole:
        return "a page"
    return "" if head[5] & _OGG_END else "a stream"


def _gif(file: BinaryIO) -> str:
    """GIF: blocks up to one that says that nothing follows."""
    header = file.read(_GIF_HEADER)
    _pass_colours(file, header[10:11])
    while block := file.read(1):
        if block == b"\x2c":
            _pass_colours(file, file.read(9)[8:])
        elif block != b"\x21":  # the last one, or nothing that a GIF may hold
            return ""
        file.seek(1, os.SEEK_CUR)  # what kind of extension, or of compression
        while (size := file.read(1)) > b"\0":
            file.seek(size[0], os.SEEK_CUR)
    return "a picture"


def _pass_colours(file: BinaryIO, flags: bytes) -> None:
    """Go on behind the table of colours that flags speak of."""
    if flags and flags[0] & _GIF_COLOURS:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)


def _mp4(file: BinaryIO) -> str:
    """MP4 in fragments: boxes, each of which says its length. Others tell it by their tables."""
    end = os.fstat(file.fileno()).st_size
    start, fragments = 0, False
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16)
        wide = head[:4] == b"\0\0\0\1"
        size = int.from_bytes(head[8:] if wide else head[:4], "big")
        if size < 8:  # as far as the file goes, or nonsense
            return ""
        fragments |= head[4:8] == b"moof"
        start += size
    return "a fragment" if fragments and start != end else ""
