"""A piece of a gallery: vectors of some clips, in one write-once file that is mapped, not read.

The file is safetensors: numbers and JSON, no code. N clips, W windows of them, F frames:

=============  ===================  ==========================================================
``clips``      float32 [N, D]       what the head makes of each clip
``windows``    float16 [W, D]       what it makes of each window
``spans``      int32 [W, 3]         clip, first frame, frame after the last
``frames``     float16 [F, D]       each frame alone, as a unit vector
``times``      float32 [F]          seconds from the start of the clip
``offsets``    int64 [N + 1]        frames of clip i are ``offsets[i]`` to ``offsets[i + 1]``
``marks``      uint8 [N, 16]        what the clip was made of; another mark is another clip
``content``    int64 [N]            digest of the features: equal ones are copies of each other
``names``      uint8 [bytes]        ``[id, path, start, end, partial]`` of each clip, as JSON
``name_ends``  int64 [N + 1]        where they begin and end
``unrelated``  float32 [2, S]       best score of unrelated sentences: of clips, of moments
``index.…``                         int8 companion of ``windows`` (``kernels.GalleryIndex``)
=============  ===================  ==========================================================
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from c4c.core.errors import C4CError, Damaged
from c4c.core.files import parse_json, require_file
from c4c.core.schema import parse
from c4c.core.tensors import read_safetensors
from c4c.kernels import GalleryIndex
from c4c.retrieval.windows import frame_ends

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_INDEX = "index."
_KEPT = 16384  # clips of which names and times stay at hand
_DTYPES = {
    "clips": (torch.float32, 2),
    "windows": (torch.float16, 2),
    "spans": (torch.int32, 2),
    "frames": (torch.float16, 2),
    "times": (torch.float32, 1),
    "offsets": (torch.int64, 1),
    "marks": (torch.uint8, 2),
    "content": (torch.int64, 1),
    "names": (torch.uint8, 1),
    "name_ends": (torch.int64, 1),
    "unrelated": (torch.float32, 2),
}


@dataclass(frozen=True, slots=True)
class Named:
    """Which clip a row is of.

    Attributes:
        id: the clip's id.
        path: its video.
        start: where it begins, in seconds.
        end: where it ends; ``None`` is the end of the video.
        partial: whether decoding stopped early.
    """

    id: str
    path: str
    start: float
    end: float | None
    partial: bool


class Piece:
    """A piece as it was opened; its tensors are views of the mapped file.

    Args:
        tensors: those of the table above.
        where: the file, for messages.

    Raises:
        Damaged: they do not fit together.
    """

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self._where = where
        self._index = {
            name.removeprefix(_INDEX): tensor
            for name, tensor in tensors.items()
            if name.startswith(_INDEX)
        }
        for name, (dtype, rank) in _DTYPES.items():
            tensor = tensors.get(name)
            if tensor is None or tensor.dtype != dtype or tensor.ndim != rank:
                raise Damaged(f"{where} has no '{name}' of the right kind.")
        self.clips, self.windows = tensors["clips"], tensors["windows"]
        self.frames = tensors["frames"]
        self.spans, self.times = tensors["spans"].numpy(), tensors["times"].numpy()
        self.offsets, self.marks = tensors["offsets"].numpy(), tensors["marks"].numpy()
        self.content, self.unrelated = tensors["content"].numpy(), tensors["unrelated"].numpy()
        self._names, self._name_ends = tensors["names"].numpy(), tensors["name_ends"].numpy()
        self._check()
        # What hits are made of is asked for again with every question.
        self.name = lru_cache(_KEPT)(self._name)
        self.clip_times = lru_cache(_KEPT)(self._times)

    def _check(self) -> None:
        """Lengths agree, and no row points outside: what is read later needs no check."""
        count, frames = len(self.clips), len(self.frames)
        per_clip = {len(self.offsets) - 1, len(self._name_ends) - 1, len(self.marks)}
        widths = {tensor.shape[1] for tensor in (self.clips, self.windows, self.frames)}
        clip, first, last = self.spans.T if self.spans.shape[1:] == (3,) else np.ones((3, 1))
        good = (
            per_clip | {len(self.content)} == {count}
            and len(widths) == 1
            and len(self.spans) == len(self.windows)
            and len(self.times) == frames
            and self.marks.shape[1:] == (16,)
            and len(self.unrelated) == 2
            and _rises(self.offsets, frames)
            and _rises(self._name_ends, len(self._names))
            and bool(((clip >= 0) & (clip < count) & (first >= 0) & (first < last)).all())
        )
        if not good or (last > np.diff(self.offsets)[clip]).any():
            raise Damaged(f"{self._where}: its tables do not fit together.")

    def __len__(self) -> int:
        return len(self.clips)

    @cached_property
    def searchable(self) -> GalleryIndex:
        """The windows with their int8 companion, where that was stored."""
        return GalleryIndex.restored(self.windows, self._index)

    def _name(self, clip: int) -> Named:
        """Which clip a row is of, as ``name``.

        Raises:
            Damaged: that is not what c4c wrote there.
        """
        first, last = self._name_ends[clip : clip + 2].tolist()
        try:
            row = parse_json(bytes(self._names[first:last]).decode(), self._where)
            id_, path, start, end, partial = parse(list[Any], row, self._where)
            fields = {"id": id_, "path": path, "start": start, "end": end, "partial": partial}
            return parse(Named, fields, self._where)
        except (C4CError, ValueError) as error:
            raise Damaged(f"{self._where}: the name of clip {clip} is damaged ({error})") from None

    def clip_frames(self, clip: int) -> tuple[Tensor, Any]:
        """Unit vectors float16 [F, D] and times [F] of a clip's frames."""
        first, last = self.offsets[clip : clip + 2].tolist()
        return self.frames[first:last], self.times[first:last]

    def _times(self, clip: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
        """When each of a clip's frames begins to be shown and when it stops, as ``clip_times``."""
        times = self.clip_frames(clip)[1]
        return times, frame_ends(times)

    def rows_of(self, clips: Any) -> Any:
        """Places of the windows of some clips, given as bool [N]."""
        return np.flatnonzero(clips[self.spans[:, 0]])


def _rises(ends: Any, total: int) -> bool:
    return bool(len(ends) and ends[0] == 0 and ends[-1] == total and (np.diff(ends) >= 0).all())


def piece_tensors(
    names: list[Named],
    clips: Tensor,
    windows: Tensor,
    spans: Any,
    frames: Tensor,
    times: list[Any],
    marks: list[bytes],
    content: list[int],
) -> dict[str, Tensor]:
    """What a piece's file holds, without unrelated sentences yet; see the table above."""
    rows = [
        json.dumps([one.id, one.path, one.start, one.end, one.partial]).encode() for one in names
    ]
    windows = windows.to(torch.float16).contiguous()
    index = GalleryIndex(windows).state()
    tensors = {
        "clips": clips.float().contiguous(),
        "windows": windows,
        "spans": torch.from_numpy(np.ascontiguousarray(spans, np.int32).reshape(-1, 3)),
        "frames": frames.to(torch.float16).contiguous(),
        "times": torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *times])),
        "offsets": _ends([len(one) for one in times]),
        "marks": torch.frombuffer(bytearray(b"".join(marks)), dtype=torch.uint8).view(-1, 16),
        "content": torch.tensor(content, dtype=torch.int64),
        "names": torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8),
        "name_ends": _ends([len(row) for row in rows]),
        "unrelated": torch.zeros(2, 0),
    }
    return tensors | {_INDEX + name: one for name, one in index.items()}


def _ends(lengths: list[int]) -> Tensor:
    return torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int64))


def open_piece(path: Path, size: int) -> Piece:
    """Map a piece.

    Args:
        path: the file.
        size: bytes that it must have.

    Raises:
        Damaged: it has others, or is no piece.
        C4CError: it does not exist.
    """
    if require_file(path) != size:
        raise Damaged(f"{path} is not as long as it was written.")
    try:
        return Piece(read_safetensors(path)[0], str(path))
    except Damaged:
        raise
    except C4CError as error:
        raise Damaged(f"{path} is damaged ({error}).") from None


def content_of(features: Any) -> int:
    """A digest of a clip's features, as a signed number of 64 bits."""
    digest = hashlib.blake2b(np.ascontiguousarray(features).data, digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
