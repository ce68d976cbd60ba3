"""Opening a distrusted video: what is refused before a frame is decoded, and how long it is.

Regular files only, no protocol but ``file``, known containers only, sizes checked before a
frame is allocated, nothing encrypted.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

# Containers of real videos; playlists (hls, concat, sdp, dash), which point elsewhere, are not.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,gif,flv,asf,ogg,mpegvideo,h264,hevc"
)
# Their length is guessed from a few time stamps near the end, which misses what starts over.
_GUESSED = ("mpeg", "mpegts")
_TIMED = ("mov", "matroska", "mpegts", "mpeg", "flv")  # hold the time each frame is shown at
MAX_PIXELS = 8192 * 8192
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _FORMATS,
    "max_pixels": str(MAX_PIXELS),  # the decoder too allocates nothing larger
}
_COVER_ART = 0x400  # a stream's disposition
_STEP = 1 / 25  # seconds a frame is shown, where nothing says


class Refused(Exception):
    """A file that is not to be decoded, and why."""


@dataclass(frozen=True, slots=True)
class Video:
    """An opened video.

    Attributes:
        container: as PyAV opened it.
        stream: the video stream in it.
        codec: what decodes its packets, in one thread.
        rotation: degrees, where frames do not tell it themselves.
        step: seconds a frame is shown, on average.
    """

    container: Any
    stream: Any
    codec: Any
    rotation: int
    step: float

    @property
    def timed(self) -> bool:
        """Whether packets hold the time at which their frame is shown."""
        return bool(self.container.format.name.startswith(_TIMED))


def check_file(path: str) -> os.stat_result:
    """The status of a regular file that can be read and holds something.

    Raises:
        Refused: it is not one.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise Refused(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise Refused("is not a regular file")
    if found.st_size == 0:
        raise Refused("is empty (zero bytes)")
    if not os.access(path, os.R_OK):
        raise Refused("cannot be opened: Permission denied")
    return found


@contextlib.contextmanager
def open_video(path: str) -> Iterator[Video]:
    """The video in a file.

    Raises:
        Refused: there is none, or its frames are too large.
    """
    with _open(path) as container:
        stream = _stream(container)
        step = float(1 / stream.average_rate) if stream.average_rate else _STEP
        codec, rotation = stream.codec_context, 0
        if codec.name == "vp9":
            codec, rotation = _strict_vp9(path, codec)
        yield Video(container, stream, codec, rotation, step)


def _open(path: str) -> Any:
    import av

    _listen()
    # A path, not a text that could name a protocol: ``a:b.mp4`` is a file here.
    # Titles in Latin-1 are no reason to refuse a video.
    name = "file:" + os.path.abspath(path)
    return av.open(name, options=_OPTIONS, metadata_errors="replace")


@cache
def _listen() -> None:
    """Have FFmpeg's words on errors counted and put into exceptions, and printed nowhere."""
    import av.logging

    if av.logging.get_level() is None:
        av.logging.set_level(av.logging.PANIC)


def complaints() -> int:
    """How many errors FFmpeg has spoken of in this process."""
    import av.logging

    return int(av.logging.get_last_error()[0])


def reason(error: Exception) -> str:
    """What an error says, in FFmpeg's own words where it has any; no path, no number."""
    words = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    log = getattr(error, "log", None)
    return f"{words} ({log[2].strip().rstrip('.')})" if log else words


def _stream(container: Any) -> Any:
    streams = [
        stream
        for stream in container.streams.video
        if not int(stream.disposition) & _COVER_ART and stream.codec_context is not None
    ]
    if not streams:
        raise Refused("has no video stream")
    stream = streams[0]
    stream.thread_type = "NONE"  # one process a core already
    stream.codec_context.options = {"max_pixels": _OPTIONS["max_pixels"]}
    check_size(stream.codec_context.width, stream.codec_context.height)
    return stream


def check_size(width: int, height: int) -> None:
    """Refuse frames that are too large.

    Raises:
        Refused: they are.
    """
    if width * height > MAX_PIXELS:
        raise Refused(f"claims {width} x {height} pixels, more than {MAX_PIXELS} are refused")


def _strict_vp9(path: str, codec: Any) -> tuple[Any, int]:
    """A decoder of VP9 that notices when a frame's data is not used up, and the rotation.

    FFmpeg's own gives garbage without a word; libvpx gives the same frames, or an error. It is
    not told how frames are turned, so the other one is asked, about the first frame. libvpx is
    often built for 8 bits only.
    """
    import av
    import av.error

    if codec.format is None or codec.format.components[0].bits != 8:
        return codec, 0
    try:
        strict: Any = av.CodecContext.create("libvpx-vp9", "r")
        with _open(path) as again:
            first = next(iter(again.decode(_stream(again))), None)
    except (ValueError, av.error.FFmpegError):
        return codec, 0
    strict.thread_count = 1
    strict.options = {"max_pixels": _OPTIONS["max_pixels"]}
    return strict, getattr(first, "rotation", 0)


def duration(video: Video, path: str) -> float:
    """Seconds of video: what the stream says, else the container, else the packets."""
    container, stream = video.container, video.stream
    if not container.format.name.startswith(_GUESSED):
        if stream.duration and stream.time_base and stream.duration > 0:
            return float(stream.duration * stream.time_base)
        if container.duration and container.duration > 0:
            return max(0.0, float(container.duration / 1e6) - _before(video))
    return _counted(path, video.step)


def _before(video: Video) -> float:
    """Seconds before the first frame, where a container's duration counts from 0."""
    if not video.container.format.name.startswith("matroska"):
        return 0.0
    start: float = (video.stream.start_time or 0) * float(video.stream.time_base)
    return start


def _counted(path: str, step: float) -> float:
    """Seconds that the packets' time stamps span, however often they begin anew."""
    untimed, before = 0, -(1 << 62)
    spans: list[tuple[float, float]] = []
    with _open(path) as container:
        for packet in container.demux(_stream(container)):
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
