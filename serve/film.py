"""Videos for browsers: whether one can be played as it is, and if not, a part of it as MP4.

Files are looked at and converted in confined processes, never in this one.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.files import parse_json, read_bytes, read_text
from c4c.core.schema import parse
from c4c.serve.batching import Busy
from c4c.serve.store import Store

_MEMORY = 4 << 30  # bytes of address space
_OUTPUT = 64 << 20  # bytes that a preview may have
_SECONDS = 60  # of computing; as long again may pass on a busy machine
_AT_ONCE = 2
_WAITING = 8  # that may wait for a turn: they hold threads that others need
_MOST_BYTES = 1 << 30  # of all previews that are kept
LONGEST = 120.0  # seconds of a preview

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


@dataclass(frozen=True, slots=True)
class Film:
    """What a video is.

    Attributes:
        container: FFmpeg's name of its format.
        codec: that of its pictures.
        bits: of a colour.
        pixels: FFmpeg's name of their format.
        width: pixels, upright.
        height: likewise.
        seconds: how long it is.
    """

    container: str
    codec: str
    bits: int
    pixels: str
    width: int
    height: int
    seconds: float

    def is_played(self, kind: str) -> bool:
        """Whether today's browsers play it, of a file of that media type."""
        return kind in _PLAYED and self.codec in _CODECS and self.bits == 8 and "420" in self.pixels


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
            seconds: how long it is, ``LONGEST`` at most.

        Raises:
            C4CError: that part cannot be converted.
            Busy: others have to be converted first.
        """
        key = (path, *_stamp(path), start, seconds)
        kept = self._store.get(key)
        return kept or self._store.put(
            key, lambda target: self.convert(path, start, seconds, target)
        )

    def convert(self, path: str, start: float, seconds: float, target: Path) -> None:
        """Write a part of a video as MP4.

        Raises:
            C4CError: that part cannot be converted.
            Busy: others have to be converted first.
        """
        with self._turn(), target.open("r+b") as stream:
            self._run("convert", stream.fileno(), path, str(start), str(min(seconds, LONGEST)))

    def picture(self, path: str) -> npt.NDArray[np.uint8]:
        """The pixels of a picture, uint8 [H, W, 3], upright and not larger than 1024.

        Raises:
            C4CError: it is none.
            Busy: others have to be read first.
        """
        with self._turn(), _scratch() as (handle, name):
            try:
                self._run("picture", handle, path)
            except C4CError:
                words = "Cannot read the picture; send a JPEG, PNG, WebP, GIF or BMP."
                raise C4CError(words) from None
            data = read_bytes(name, _OUTPUT)
        height, width = struct.unpack_from("<II", data.ljust(8))
        if not height * width or len(data) != 8 + 3 * height * width:
            raise C4CError("Cannot read the picture.")
        pixels: npt.NDArray[np.uint8] = np.frombuffer(data, np.uint8, offset=8).copy()
        return pixels.reshape(height, width, 3)

    def _look(self, path: str, *stamp: int) -> Film:
        # A file and no pipe: a process that is killed leaves no reader waiting.
        with self._turn(), _scratch() as (handle, name):
            self._run("look", handle, path)
            words = parse_json(read_text(name, 65536), "a video")
            return parse(Film, words, "a video")

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Busy("Too many videos wait to be looked at; ask again in a moment.")
        try:
            with self._turns:
                yield
        finally:
            self._places.release()

    def _run(self, task: str, handle: int, path: str, *more: str) -> None:
        code = (
            "import sys; from c4c.extract.video.sandbox import confine; "
            f"confine({_MEMORY}, {_SECONDS}, {_OUTPUT}); "
            "from c4c.serve.film_process import run; run(*sys.argv[1:2], int(sys.argv[2]), "
            "*sys.argv[3:])"
        )
        command: list[Any] = [spawn.get_executable(), "-P", "-c", code, task, str(handle), path]
        try:
            done = subprocess.run(
                [*command, *more],
                pass_fds=(handle,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=2 * _SECONDS,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                process_group=0,
            )
        except subprocess.TimeoutExpired:
            raise C4CError("The video took too long to decode.") from None
        if done.returncode:
            raise C4CError("The video cannot be decoded there.")


@contextlib.contextmanager
def _scratch() -> Iterator[tuple[int, Path]]:
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="c4c-") as stream:
        yield stream.fileno(), Path(stream.name)


def _stamp(path: str) -> tuple[int, int]:
    try:
        about = os.stat(path)
    except (OSError, ValueError):
        raise C4CError("The video file does not exist any more.") from None
    return about.st_mtime_ns, about.st_size
