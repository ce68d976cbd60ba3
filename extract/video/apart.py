"""What is done to whole files from elsewhere: looked at, cut, read as pictures.

Each is done by a confined process of its own (``apart_process.py``), never in this one. What it
writes goes to a file that was opened for it, and nothing of that is believed.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.durable import fsync_file, make_folder, rename_new
from c4c.core.errors import C4CError
from c4c.core.files import parse_json, read_bytes, read_text
from c4c.core.progress import say
from c4c.core.schema import parse

_MEMORY = 4 << 30  # bytes of address space
_OUTPUT = 64 << 20  # bytes that a preview, or what is said of a file, may have
_SECONDS = 60  # of computing; as long again may pass on a busy machine
_A_SECOND = 20  # of computing that a second of a video may take to be encoded
_LONGEST = 6 * 3600.0  # seconds of a cut for which that is granted
_NAMES = 1000  # cuts of one span that a folder may hold
_ENDINGS = {b"\x1a\x45\xdf\xa3": ".mkv"}  # what a cut begins with, where it is no MP4


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
        rate: frames a second, on average.
    """

    container: str
    codec: str
    bits: int
    pixels: str
    width: int
    height: int
    seconds: float
    rate: float


def look(path: str) -> Film:
    """What a video is.

    Raises:
        C4CError: it cannot be read.
    """
    # A file and no pipe: a process that is killed leaves no reader waiting.
    with _scratch() as (handle, name):
        _run("look", handle, path)
        return parse(Film, parse_json(read_text(name, 65536), "a video"), "a video")


def read_picture(path: str) -> npt.NDArray[np.uint8]:
    """The pixels of a picture, uint8 [H, W, 3], upright and not larger than 1024.

    Raises:
        C4CError: it is none.
    """
    with _scratch() as (handle, name):
        try:
            _run("picture", handle, path)
        except C4CError:
            words = "Cannot read the picture; it takes a JPEG, PNG, WebP, GIF or BMP."
            raise C4CError(words) from None
        data = read_bytes(name, _OUTPUT)
    height, width = struct.unpack_from("<II", data.ljust(8))
    if not height * width or len(data) != 8 + 3 * height * width:
        raise C4CError("Cannot read the picture.")
    pixels: npt.NDArray[np.uint8] = np.frombuffer(data, np.uint8, offset=8).copy()
    return pixels.reshape(height, width, 3)


def preview(path: str, start: float, seconds: float, target: Path) -> None:
    """Write a part of a video as a small MP4 without sound, which every browser plays.

    Args:
        path: the video.
        start: second at which the part begins.
        seconds: how long it is.
        target: an empty file.

    Raises:
        C4CError: that part cannot be converted.
    """
    with target.open("r+b") as stream:
        _run("preview", stream.fileno(), path, start, start + seconds)


def cut(path: str, start: float, end: float | None, folder: Path, exact: bool = False) -> Path:
    """Write a span of a video to a new file, with its sound.

    By default nothing is encoded again: the file begins at the key frame before ``start`` and
    has the quality of the video. It is MP4, or Matroska where the video is neither MP4 nor MOV.

    Args:
        path: the video.
        start: second at which the span begins.
        end: second at which it ends; ``None`` is the end of the video.
        folder: where the file is written; it is named after the video and the span.
        exact: begin with the frame on display at ``start``: pictures are encoded again (H.264).

    Returns:
        The file.

    Raises:
        C4CError: the video cannot be read there, or the folder cannot be written.
    """
    last = math.inf if end is None else end
    if not 0 <= start < last:
        raise C4CError(f"A cut goes from a second to a later one, not from {start:g} to {last:g}.")
    try:
        make_folder(folder)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".c4c-") as scratch:
            made = Path(scratch) / "cut"
            _write_cut(path, start, last, made, exact)
            fsync_file(made)
            return _named(made, path, start, end, folder)
    except OSError as error:
        raise C4CError(f"Cannot write to {folder}: {error.strerror or error}.") from None


def _write_cut(path: str, start: float, end: float, made: Path, exact: bool) -> None:
    for task in ["encode"] if exact else ["copy", "encode"]:
        with made.open("w+b") as stream:
            try:
                _run(task, stream.fileno(), path, start, end)
                return
            except C4CError:
                if task == "encode":
                    raise
        say(f"{path} cannot be cut as it is: its pictures are encoded again")


def _named(made: Path, path: str, start: float, end: float | None, folder: Path) -> Path:
    """Give a cut its name: one that no file has."""
    with made.open("rb") as stream:
        ending = _ENDINGS.get(stream.read(4), ".mp4")
    stem = re.sub(r"[^\w.-]+", "-", Path(path).stem, flags=re.ASCII).strip("-.")[:60] or "video"
    span = f"{start:.2f}-{'end' if end is None else f'{end:.2f}'}"
    for again in range(_NAMES):
        target = folder / f"{stem}-{span}{f'-{again}' if again else ''}{ending}"
        if rename_new(made, target):
            return target
    raise C4CError(f"{folder} is full of cuts of this span.")


def _run(task: str, handle: int, path: str, *span: float) -> None:
    """Have a task done by a confined process, which writes to an open file.

    Raises:
        C4CError: it could not be done.
    """
    seconds, output = _SECONDS, _OUTPUT
    if task in ("copy", "encode"):
        seconds += int(_A_SECOND * min(span[1] - span[0], _LONGEST))
        with contextlib.suppress(OSError, ValueError):  # the process will say what is wrong
            output += 8 * os.stat(path).st_size
    code = (
        "import sys; from c4c.extract.video.sandbox import confine; "
        f"confine({_MEMORY}, {seconds}, {output}); "
        "from c4c.extract.video.apart_process import run; "
        "run(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])"
    )
    command: list[Any] = [spawn.get_executable(), "-P", "-c", code, task, str(handle), path]
    try:
        done = subprocess.run(
            [*command, *map(str, span)],
            pass_fds=(handle,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=2 * seconds,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            process_group=0,
        )
    except subprocess.TimeoutExpired:
        raise C4CError(f"{path} took too long to decode.") from None
    except ValueError:  # a name that no file can have
        raise C4CError("The video file does not exist any more.") from None
    if done.returncode:
        raise C4CError(f"{path} cannot be decoded there.")


@contextlib.contextmanager
def _scratch() -> Iterator[tuple[int, Path]]:
    with tempfile.NamedTemporaryFile(prefix="c4c-") as stream:
        yield stream.fileno(), Path(stream.name)
