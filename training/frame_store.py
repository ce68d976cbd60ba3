"""The frame cache as it lies on disk: frames, an index, and a checksum for each clip.

``frames.bin`` holds the frames of all clips, one behind the other; ``index.json`` how many each
has, the CRC-32 of its id and frames, and what all of it was decoded from. A clip is compared with
its checksum when it is first read, in threads that work ahead of the training. ``index.json``
holds null for a clip that is damaged and is to be decoded again.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError, Damaged, NewerVersion, Unreadable
from c4c.core.files import as_text, json_bytes, parse_json, read_bytes, require_file, write_atomic
from c4c.core.progress import say
from c4c.core.schema import Range, parse, sealed

FRAMES, INDEX = "frames.bin", "index.json"
LENGTHS, CRCS = "lengths.bin", "crc32.bin"  # how far the frames are, while they are decoded
SCHEMA = 1
_AHEAD = 64  # clips that are read and checked before they are wanted
_THREADS = 2  # CRC-32 runs at some GB/s, and without Python's lock
MOST_FRAMES = 1 << 20  # of a clip; decoding refuses more than a tenth of that
_Count = Annotated[int, Range(0, MOST_FRAMES)]
_Crc = Annotated[int, Range(0, (1 << 32) - 1)]


@dataclass(frozen=True, slots=True)
class Index:
    """What ``index.json`` holds; those from before there were checksums lack all but two.

    Attributes:
        ids: clip ids [N].
        lengths: frames of each [N].
        size: side of a frame in pixels, S.
        made_of: sha256 of the clips, files and settings that the frames are of.
        crc32: of each clip (``clip_crc``) [N].
    """

    ids: tuple[str, ...]
    lengths: tuple[_Count, ...]
    size: Annotated[int, Range(1, 1 << 14)] | None = None
    made_of: str | None = None
    crc32: tuple[_Crc | None, ...] | None = None

    def __post_init__(self) -> None:
        wrong = len(self.ids) != len(self.lengths) or len(set(self.ids)) < len(self.ids)
        if wrong or (self.crc32 is not None and len(self.crc32) != len(self.ids)):
            raise C4CError("its ids, lengths and checksums do not fit each other.")

    def damaged(self) -> list[int]:
        """Places of the clips that are to be decoded again."""
        return [place for place, crc in enumerate(self.crc32 or ()) if crc is None]


def clip_crc(name: str, frames: Any) -> int:
    """CRC-32 of a clip's id, a zero byte, and its frames' bytes."""
    begun = zlib.crc32(name.encode("utf-8", "surrogateescape") + b"\0")
    return zlib.crc32(frames, begun)


def write_index(folder: Path, index: Index) -> None:
    """Write the index of a frame cache, atomically."""
    write_atomic(folder / INDEX, json_bytes(sealed({"schema": SCHEMA, **asdict(index)})))


def read_index(folder: Path) -> Index:
    """The index of a frame cache.

    Raises:
        C4CError: it does not exist, cannot be read, or is damaged.
        NewerVersion: a later c4c wrote it.
    """
    return _parsed(read_bytes(folder / INDEX), folder)


def _parsed(data: bytes, folder: Path) -> Index:
    where = str(folder / INDEX)
    value = parse_json(as_text(data, where), where)
    numbered = isinstance(value, dict) and "schema" in value
    index = parse(Index, value, where, SCHEMA if numbered else None, _remedy(folder))
    if index.crc32 is not None and not (numbered and "sha256" in value):
        raise Damaged(f"{where} has lost its own checksum; {_remedy(folder)}.")
    return index


def _remedy(folder: Path) -> str:
    return f"run c4c cache verify --repair {folder}, then the same training as before"


@dataclass(frozen=True)
class FrameStore:
    """Frames of a split's clips.

    Attributes:
        pixels: uint8 [F, 3, S, S], mapped.
        offsets: int64 [N + 1]; clip i has frames ``offsets[i]`` to ``offsets[i + 1]``.
        ids: clip ids [N]; clips that could not be decoded have no frames.
        crc32: of each clip (``clip_crc``) [N]; ``None`` where there are no checksums.
        folder: the frame cache, for messages.
    """

    pixels: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    ids: tuple[str, ...]
    crc32: tuple[int | None, ...] | None = None
    folder: Path = Path()
    _checked: set[int] = field(default_factory=set)

    @classmethod
    def open(cls, folder: Path, index: Index, size: int) -> FrameStore:
        """Map the frames of a frame cache.

        Args:
            folder: the frame cache.
            index: of it; no clip in it is damaged.
            size: side of a frame in pixels, S.

        Raises:
            C4CError: the frames are not as many as the index says.
        """
        offsets = np.cumsum([0, *index.lengths], dtype=np.int64)
        path, shape = folder / FRAMES, (int(offsets[-1]), 3, size, size)
        if not shape[0] or require_file(path) != math.prod(shape):
            raise C4CError(f"{path} does not hold {shape[0]} frames; {_remedy(folder)}.")
        pixels = np.memmap(path, np.uint8, "r", shape=shape)
        return cls(pixels, offsets, index.ids, index.crc32, folder)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Frames of each clip [N]."""
        return np.diff(self.offsets)

    def stream(self, places: Iterable[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """Frames [n, 3, S, S] of clips, one after the other.

        Raises:
            C4CError: the frames of a clip differ from their checksum.
        """
        wanted = [int(place) for place in places]
        with ThreadPoolExecutor(_THREADS) as threads:
            checks = deque(threads.submit(self._check, place) for place in wanted[:_AHEAD])
            for number, place in enumerate(wanted):
                checks.popleft().result()
                if number + _AHEAD < len(wanted):
                    checks.append(threads.submit(self._check, wanted[number + _AHEAD]))
                yield self._frames(place)

    def _frames(self, place: int) -> npt.NDArray[np.uint8]:
        return self.pixels[self.offsets[place] : self.offsets[place + 1]]

    def _check(self, place: int) -> None:
        if self.crc32 is None or place in self._checked:
            return
        if clip_crc(self.ids[place], self._frames(place)) != self.crc32[place]:
            raise Damaged(
                f"{self.folder}: the frames of '{self.ids[place]}' differ from their checksum; "
                f"{_remedy(self.folder)}, which decodes that clip again."
            )
        self._checked.add(place)


def frame_caches(folder: Path) -> list[Path]:
    """The frame caches in a folder of them, or the folder itself when it is one."""
    found = [folder, *sorted(folder.glob("*"))] if folder.is_dir() else []
    return [one for one in found if (one / LENGTHS).exists() and not one.name.startswith(".")]


def frame_damage(folder: Path, repair: bool = False) -> Iterator[C4CError]:
    """Everything in a frame cache that is missing or changed, an error each.

    Args:
        folder: the frame cache.
        repair: mark damaged clips, which the next training then decodes again, and set an index
            that is damaged aside, which it then writes again.

    Raises:
        C4CError: what is repaired cannot be written.
    """
    path = folder / INDEX
    try:
        data = read_bytes(path)
    except C4CError as error:
        yield error
        return
    try:
        index = _parsed(data, folder)
    except C4CError as error:
        yield error
        if repair and not isinstance(error, NewerVersion):
            path.rename(path.with_name(f"{INDEX}.damaged"))
            yield Damaged(f"{path}: set aside as {INDEX}.damaged")
        return
    if index.crc32 is None or index.size is None:
        say(f"{folder}: from before frames had checksums; it is read, and cannot be checked")
        return
    damaged = yield from _damaged_clips(folder, index, index.crc32, index.size)
    if repair and damaged:
        crcs = tuple(None if i in damaged else crc for i, crc in enumerate(index.crc32))
        write_index(folder, replace(index, crc32=crcs))
        yield Damaged(f"{folder}: {len(damaged)} clips will be decoded again")


def _damaged_clips(
    folder: Path, index: Index, crcs: Sequence[int | None], size: int
) -> Generator[C4CError, None, set[int]]:
    """An error for each clip that is not as it was written; returns the places of those."""
    damaged: set[int] = set()
    try:
        require_file(folder / FRAMES)
        with (folder / FRAMES).open("rb") as stream:
            for place, (name, count) in enumerate(zip(index.ids, index.lengths, strict=True)):
                crc = _crc_of(name, stream, 3 * size * size * count)
                if crcs[place] is None:
                    yield Damaged(f"{folder}: '{name}' is damaged, and will be decoded again")
                elif crc != crcs[place]:
                    damaged.add(place)
                    yield Damaged(f"{folder}: the frames of '{name}' differ from their checksum")
            if stream.read(1):
                yield Damaged(f"{folder / FRAMES} goes on behind its last clip")
                damaged |= {len(index.ids) - 1}
    except C4CError as error:
        yield error
        damaged = set() if (folder / FRAMES).exists() else set(range(len(index.ids)))
    except OSError as error:
        yield Unreadable.because(folder / FRAMES, error)
    return damaged


def _crc_of(name: str, stream: BinaryIO, count: int) -> int:
    """``clip_crc`` of the next ``count`` bytes, as far as there are any."""
    found = clip_crc(name, b"")
    while count and (data := stream.read(min(count, 1 << 20))):
        found = zlib.crc32(data, found)
        count -= len(data)
    return found
