"""How long a video is: from its first picture to the end of its last one.

Containers of the first kind say it of each track. Others say it of the whole file, where sound
and subtitles may outlast the picture: there the ends of all tracks are looked up. When none of
them reaches what the header claims, the file was cut, and the claim holds, so that what is
missing is noticed. Where nothing is claimed the packets are counted.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from dataclasses import dataclass
from typing import Any

from c4c.extract.video.opening import Video, open_file

_OF_TRACKS = ("mov", "avi", "gif")
_OF_FILES = ("matroska", "flv", "asf", "ogg")
_HELD = ("matroska", "gif")  # say of each picture how long it is shown
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SLACK = 0.3  # seconds by which headers are off: they round, and forget the last packet's length


@dataclass(frozen=True, slots=True)
class Length:
    """How long a video is.

    Attributes:
        seconds: from the first picture to the end of the last one.
        held: whether the last picture surely stays until then.
    """

    seconds: float
    held: bool = False


def length_of(video: Video, path: str) -> Length:
    """How long a video is, by its header as far as that can be believed."""
    container, stream = video.container, video.stream
    name = container.format.name
    if name.startswith(_OF_TRACKS) and stream.duration and stream.duration > 0:
        ticks = stream.duration
        if name == "avi":  # of a file that was cut, the first is what is left
            ticks = max(ticks, stream.frames)
        return Length(float(ticks * stream.time_base), _has_all(stream, path))
    claimed = (container.duration or 0) / 1e6
    if name == "asf" and not claimed:  # FFmpeg believes no header of a file that was cut
        claimed = _asf_seconds(path)
    if name.startswith(_OF_FILES) and claimed > 0:
        return _of_file(video, path, claimed)
    return Length(_counted(path, stream.index, video.step))


def stays(video: Video, ticks: int | None) -> float:
    """Seconds for which a picture is shown, where its packet says so; else 0."""
    if not ticks or not video.container.format.name.startswith(_HELD):
        return 0.0
    return float(ticks * video.stream.time_base)


def _has_all(stream: Any, path: str) -> bool:
    """Whether an MP4's last picture is in the file: then it stays until the track ends."""
    mov = stream.container.format.name.startswith("mov")
    entries = getattr(stream, "index_entries", ()) if mov else ()  # PyAV 15 has none
    if not stream.frames or not len(entries):  # fragments say nothing of those to come
        return False
    last = entries[len(entries) - 1]
    return bool(last.pos + last.size <= os.path.getsize(path))


def _of_file(video: Video, path: str, claimed: float) -> Length:
    """The length where a header claims so many seconds of the file as a whole."""
    first = (video.stream.start_time or 0) * float(video.stream.time_base)
    matroska = video.container.format.name.startswith("matroska")
    # A track's own words count where nothing was cut off, so that they cannot be of what is lost.
    tagged = _tagged(video.stream) if matroska and _is_whole(path) else 0.0
    # Matroska's claim counts from 0, others' from the file's start.
    end = _own_end(video, path, claimed, tagged) or claimed + (0.0 if matroska else first)
    return Length(max(0.0, end - first), abs(end - tagged) <= _SLACK)


def _own_end(video: Video, path: str, claimed: float, tagged: float) -> float:
    """Where the video ends, in seconds, when that is not where the file ends; else 0."""
    others = [one for one in video.container.streams if one.type in ("audio", "subtitle")]
    if not others:
        return 0.0
    ends = _ends(video, path, claimed)
    own = ends.get(video.stream.index, 0.0)
    if not own or max(ends.values()) < claimed - _SLACK:
        return 0.0
    return max(own, tagged) if tagged <= claimed + _SLACK else own


def _tagged(stream: Any) -> float:
    """Where a track ends, in seconds, by the tag that Matroska's writers give it; else 0."""
    text = stream.metadata.get("DURATION", "")
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d{1,9})?)\0*", text)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else 0.0


def _ends(video: Video, path: str, claimed: float) -> dict[int, float]:
    """Where each stream's last packet ends, in seconds; those without any left out."""
    import av.error

    index, base = video.stream.index, video.stream.time_base
    if video.container.format.name.startswith("matroska"):
        # All that follows the last key frame suffices, and its index leads there.
        with open_file(path) as container, contextlib.suppress(av.error.FFmpegError):
            container.seek(int(claimed / base), stream=container.streams[index], backward=True)
            ends = _last(container, index, video.step)
            if index in ends:
                return ends
    with open_file(path) as container:
        return _last(container, index, video.step)


def _last(container: Any, index: int, step: float) -> dict[int, float]:
    ends: dict[int, float] = {}
    for packet in container.demux():
        if packet.pts is not None and packet.size:
            long = float((packet.duration or 0) * packet.time_base)
            if not long and packet.stream_index == index:
                long = step
            end = float(packet.pts * packet.time_base) + long
            ends[packet.stream_index] = max(end, ends.get(packet.stream_index, end))
    return ends


def _asf_seconds(path: str) -> float:
    """How long an ASF file was when it was written, by its file properties; 0 is unknown."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
    start = head.find(_ASF_PROPERTIES)
    if start < 0 or start + 88 > len(head):
        return 0.0
    played, _, preroll = struct.unpack_from("<3Q", head, start + 64)
    return float(played / 1e7 - preroll / 1e3)


def _is_whole(path: str) -> bool:
    """Whether a file of Matroska holds all that its segment announces."""
    with open(path, "rb") as file:
        head = file.read(256)
        size = os.fstat(file.fileno()).st_size
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return False
    header, start = _number(head, 4)
    segment = start + header
    if head[segment : segment + 4] != b"\x18\x53\x80\x67":
        return False
    content, start = _number(head, segment + 4)
    return content > 0 and start + content <= size


def _number(data: bytes, start: int) -> tuple[int, int]:
    """A number of EBML and where it ends; -1 when it is unknown, as all bits set say."""
    first = data[start] if start < len(data) else 0
    width = 9 - first.bit_length()
    value = int.from_bytes(data[start : start + width], "big") & ((1 << 7 * width) - 1)
    known = width <= 8 and value != (1 << 7 * width) - 1
    return (value if known else -1), start + width


def _counted(path: str, index: int, step: float) -> float:
    """Seconds that the packets' time stamps span, however often they begin anew."""
    untimed, before = 0, -(1 << 62)
    spans: list[tuple[float, float]] = []
    with open_file(path) as container:
        for packet in container.demux(container.streams[index]):
            if packet.pts is None:
                untimed += bool(packet.size)
                continue
            time = float(packet.pts * packet.time_base)
            stamp = before if packet.dts is None else packet.dts
            if not spans or stamp < before:
                spans.append((time, time))
            first, last = spans[-1]
            spans[-1], before = (min(first, time), max(last, time)), stamp
    return untimed * step + sum(last - first + step for first, last in spans)
