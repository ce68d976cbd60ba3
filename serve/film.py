"""Videos for browsers: whether one can be played as it is, and if not, a part of it as MP4.

Files are looked at and converted in confined processes (``extract/video/apart.py``).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError
from c4c.extract.video.apart import Film, look, preview, read_picture
from c4c.serve.batching import Busy
from c4c.serve.store import Store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_AT_ONCE = 2
_WAITING = 8  # that may wait for a turn: they hold threads that others need
_MOST_BYTES = 1 << 30  # of all previews that are kept

# What a file begins with, where, and what browsers call it. Nothing else is handed out: a cache
# from elsewhere may name any file of this machine.
_BEGINNINGS = (
    (4, b"ftyp", "video/mp4"),
    (4, b"moov", "video/mp4"),
    (4, b"mdat", "video/mp4"),
    (4, b"wide", "video/mp4"),
    (4, b"free", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"),
    (0, b"RIFF", "video/x-msvideo"),
    (0, b"OggS", "video/ogg"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-wmv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"GIF8", "image/gif"),
)
_PLAYED = ("video/mp4", "video/webm")
_CODECS = ("h264", "vp8", "vp9", "av1", "libdav1d")


def is_played(film: Film, kind: str) -> bool:
    """Whether today's browsers play a video, of a file of that media type."""
    return kind in _PLAYED and film.codec in _CODECS and film.bits == 8 and "420" in film.pixels


def media_type(path: str) -> str:
    """What a file's beginning says that it is.

    Raises:
        C4CError: no video, or it cannot be read.
    """
    try:
        # Without blocking: it may be a pipe that nobody writes to.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = os.path.isfile(f"/proc/self/fd/{handle}")
            start = os.read(handle, 377) if regular else b""
        finally:
            os.close(handle)
    except (OSError, ValueError):
        raise C4CError("The video file does not exist any more, or cannot be read.") from None
    for offset, mark, kind in _BEGINNINGS:
        if start[offset : offset + len(mark)] == mark:
            return kind
    if start[:1] == b"G" and start[188:189] in (b"G", b""):
        return "video/mp2t"
    raise C4CError("The file is not a video.")


class Films:
    """Looks at videos and converts parts of them, few at once."""

    def __init__(self) -> None:
        self._store = Store("previews", _MOST_BYTES)
        self._places = threading.BoundedSemaphore(_AT_ONCE + _WAITING)
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._looked = lru_cache(4096)(self._look)

    def about(self, path: str) -> Film:
        """What a video is.

        Raises:
            C4CError: it cannot be read.
            Busy: others have to be looked at first.
        """
        return self._looked(path, *_stamp(path))

    def preview(self, path: str, start: float, seconds: float) -> Path:
        """The file of a part of a video as MP4.

        Args:
            path: the video.
            start: where the part begins.
            seconds: how long it is.

        Raises:
            C4CError: that part cannot be converted.
            Busy: others have to be converted first.
        """
        key = (*_stamp(path), start, seconds)

        def convert(target: Path) -> None:
            with self._turn():
                preview(path, start, seconds, target)

        return self._store.get(path, key) or self._store.put(path, key, convert)

    def picture(self, path: str) -> npt.NDArray[np.uint8]:
        """The pixels of a picture, uint8 [H, W, 3], upright and not larger than 1024.

        Raises:
            C4CError: it is none.
            Busy: others have to be read first.
        """
        with self._turn():
            return read_picture(path)

    def _look(self, path: str, *stamp: int) -> Film:
        with self._turn():
            return look(path)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Busy("Too many videos wait to be looked at; ask again in a moment.")
        try:
            with self._turns:
                yield
        finally:
            self._places.release()


def _stamp(path: str) -> tuple[int, int]:
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        raise C4CError("The video file does not exist any more.") from None
    return about.st_mtime_ns, about.st_size
