"""Opening a distrusted video: what is refused before a frame is decoded.

Regular files only, no protocol but ``file``, known containers only, sizes checked before a
frame is allocated, nothing encrypted.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from c4c.extract.video.display import Display, display_of, matrix_of
from c4c.extract.video.tracks import film

# Containers of real videos; playlists (hls, concat, sdp, dash), which point elsewhere, are not.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,gif,flv,asf,ogg,mpegvideo,h264,hevc"
)
_TIMED = ("mov", "matroska", "mpegts", "mpeg", "flv")  # hold the time each frame is shown at
MAX_PIXELS = 8192 * 8192
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": _FORMATS,
    "max_pixels": str(MAX_PIXELS),  # the decoder too allocates nothing larger
}
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
        display: how its frames are shown.
        step: seconds a frame is shown, on average.
    """

    container: Any
    stream: Any
    codec: Any
    display: Display
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
    with open_file(path) as container:
        stream = film(container, lambda: open_file(path))
        if stream is None:
            raise Refused("has no video stream")
        _bound(stream)
        step = float(1 / stream.average_rate) if stream.average_rate else _STEP
        codec, display = stream.codec_context, display_of(stream)
        if codec.name == "vp9":
            codec, display = _strict_vp9(path, stream, display)
        yield Video(container, stream, codec, display, step)


def open_file(path: str) -> Any:
    """The container, as PyAV opens it."""
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


def _bound(stream: Any) -> None:
    """Have a stream decoded in one thread, and nothing too large allocated.

    Raises:
        Refused: its frames are too large.
    """
    stream.thread_type = "NONE"  # one process a core already
    stream.codec_context.options = {"max_pixels": _OPTIONS["max_pixels"]}
    check_size(stream.codec_context.width, stream.codec_context.height)


def first_frame(path: str, index: int) -> Any:
    """The first frame that FFmpeg's own decoder gives of a stream, or ``None``."""
    with open_file(path) as container:
        stream = container.streams[index]
        _bound(stream)
        return next(iter(container.decode(stream)), None)


def check_size(width: int, height: int) -> None:
    """Refuse frames that are too large.

    Raises:
        Refused: they are.
    """
    if width * height > MAX_PIXELS:
        raise Refused(f"claims {width} x {height} pixels, more than {MAX_PIXELS} are refused")


def _strict_vp9(path: str, stream: Any, display: Display) -> tuple[Any, Display]:
    """A decoder of VP9 that notices when a frame's data is not used up, and how frames are shown.

    FFmpeg's own gives garbage without a word; libvpx gives the same frames, or an error. It is
    not told how frames are turned, so the other one is asked, about the first frame. libvpx is
    often built for 8 bits only.
    """
    import av
    import av.error

    codec = stream.codec_context
    if codec.format is None or codec.format.components[0].bits != 8:
        return codec, display
    try:
        strict: Any = av.CodecContext.create("libvpx-vp9", "r")
        first = first_frame(path, stream.index)
    except (ValueError, av.error.FFmpegError):
        return codec, display
    strict.thread_count = 1
    strict.options = {"max_pixels": _OPTIONS["max_pixels"]}
    return strict, replace(display, matrix=() if first is None else matrix_of(first))
