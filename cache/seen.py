"""Which clips a model has seen in training: digests beside its weights, for whoever evaluates it.

A clip is known again by its id, by its file (the real path), or by what is in the file
(``stamps.py``); by file and by content only where the stretches overlap. The record goes with the
weights: from a checkpoint to those that start from it, and to the caches that its backbone makes.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic
from c4c.core.records import Clip, Leak, Overlap

FILE = "seen.safetensors"
# Clips of one record, 32 bytes each; of more, whole videos are noted instead of their stretches.
MOST = 1 << 21
_ROW = np.dtype(
    [("id", "<i8"), ("file", "<i8"), ("content", "<i8"), ("start", "<f4"), ("end", "<f4")]
)
_SETS = ("trained", "chosen")


@dataclass(frozen=True, eq=False)
class ClipSet:
    """Clips as digests.

    Attributes:
        rows: [N] records, sorted, none twice: ``id``, ``file`` and ``content`` (digests, int64;
            0 where there is none), ``start`` and ``end`` (seconds, float32; infinity is the end
            of the video).
    """

    rows: npt.NDArray[Any]

    @classmethod
    def of(cls, clips: Iterable[Clip] = (), stamps: Mapping[str, str] | None = None) -> ClipSet:
        """The set of some clips.

        Args:
            clips: the clips.
            stamps: of their files, by path (``file_stamps``).
        """
        return cls(np.unique(_rows(clips, stamps or {})))

    def __or__(self, other: ClipSet) -> ClipSet:
        return ClipSet(np.unique(np.concatenate([self.rows, other.rows])))

    def __len__(self) -> int:
        return len(self.rows)

    def shared(self, clips: Sequence[Clip], stamps: Mapping[str, str] | None = None) -> Overlap:
        """Which of ``clips`` are in the set, and how they were recognised."""
        asked = _rows(clips, stamps or {})
        by_id = np.isin(asked["id"], self.rows["id"])
        by_file, by_content = (self._overlapping(asked, key) for key in ("file", "content"))
        found = np.flatnonzero(by_id | by_file | by_content)
        return Overlap(
            clips=len(found),
            by_id=int(by_id.sum()),
            by_file=int(by_file.sum()),
            by_content=int(by_content.sum()),
            first=clips[found[0]].id if len(found) else "",
        )

    def _overlapping(self, asked: npt.NDArray[Any], key: str) -> npt.NDArray[np.bool_]:
        """Which rows of ``asked`` have a stretch in common with one of the same ``key``."""
        rows = self.rows[np.argsort(self.rows[key], kind="stable")]
        first, last = (np.searchsorted(rows[key], asked[key], side) for side in ("left", "right"))
        found = np.zeros(len(asked), np.bool_)
        for place in np.flatnonzero((last > first) & (asked[key] != 0)):
            same, own = rows[first[place] : last[place]], asked[place]
            found[place] = ((same["start"] < own["end"]) & (same["end"] > own["start"])).any()
        return found

    def bounded(self) -> ClipSet:
        """The set itself, or whole videos instead of their stretches when it is too large."""
        if len(self) <= MOST:
            return self
        whole = self.rows.copy()
        whole["id"], whole["start"], whole["end"] = 0, 0.0, math.inf
        return ClipSet(np.unique(whole))


@dataclass(frozen=True, eq=False)
class Seen:
    """What went into a model.

    Attributes:
        trained: clips that it was trained on.
        chosen: clips that its best epoch was chosen on.
        unknown: why there may be others; empty when the record is whole.
    """

    trained: ClipSet
    chosen: ClipSet
    unknown: str = ""

    @classmethod
    def of(
        cls, trained: Iterable[Clip], stamps: Mapping[str, str], chosen: Iterable[Clip] = ()
    ) -> Seen:
        """The record of some clips; ``stamps`` are of their files, by path."""
        return cls(ClipSet.of(trained, stamps), ClipSet.of(chosen, stamps)).bounded()

    @classmethod
    def nothing(cls, unknown: str = "") -> Seen:
        """A record without clips."""
        return cls(ClipSet.of(), ClipSet.of(), unknown)

    @classmethod
    def read(cls, folder: Path, otherwise: str = "") -> Seen:
        """The record in a folder.

        Args:
            folder: of a checkpoint or a cache.
            otherwise: what is unknown when there is no record.

        Raises:
            C4CError: there is one, and it is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return cls.nothing(otherwise)
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as stream:
                trained, chosen = (
                    _set({key: stream.get_tensor(f"{one}.{key}") for key in _ROW.names or ()})
                    for one in _SETS
                )
                unknown = str((stream.metadata() or {}).get("unknown", ""))
                return cls(trained, chosen, "".join(filter(str.isprintable, unknown)))
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise C4CError(f"{path} is damaged ({reason}); copy it again.") from None

    def __or__(self, other: Seen) -> Seen:
        unknown = dict.fromkeys(one for one in (self.unknown, other.unknown) if one)
        both = Seen(self.trained | other.trained, self.chosen | other.chosen, "; ".join(unknown))
        return both.bounded()

    def bounded(self) -> Seen:
        """The record with at most ``MOST`` clips in each set; what had to be left out is said."""
        trained, chosen = self.trained.bounded(), self.chosen.bounded()
        if max(len(trained), len(chosen)) <= MOST:
            return Seen(trained, chosen, self.unknown)
        return Seen.nothing(f"more than {MOST} videos were trained on, too many to record")

    def as_bytes(self) -> bytes:
        """The content of ``FILE``; the same for the same clips."""
        from safetensors.numpy import save

        columns = {
            f"{one}.{key}": np.ascontiguousarray(getattr(self, one).rows[key])
            for one in _SETS
            for key in _ROW.names or ()
        }
        return bytes(save(columns, {"unknown": self.unknown}))

    def leak(self, clips: Sequence[Clip], stamps: Mapping[str, str]) -> Leak:
        """What of ``clips``, which are to be evaluated, has been seen before."""
        trained, chosen = self.trained.shared(clips, stamps), self.chosen.shared(clips, stamps)
        return Leak(len(clips), trained, chosen, self.unknown)


def inherit(folder: Path, pretrained: str | None) -> None:
    """Keep what a backbone that was trained here has seen with the features that it makes.

    Args:
        folder: the cache.
        pretrained: what the backbone was asked for by: a checkpoint folder has a record.

    Raises:
        C4CError: the record is damaged, or the cache cannot be written.
    """
    if not pretrained or not os.path.isdir(pretrained) or (folder / FILE).exists():
        return
    unknown = f"{pretrained} does not record which clips it was trained on"
    write_atomic(folder / FILE, Seen.read(Path(pretrained), unknown).as_bytes())


def _set(columns: dict[str, npt.NDArray[Any]]) -> ClipSet:
    """A set from its columns.

    Raises:
        ValueError: they are not those of a record.
    """
    sizes = {column.shape for column in columns.values()}
    kinds = all(columns[key].dtype == _ROW[key] for key in columns)
    if not kinds or len(sizes) != 1 or len(next(iter(sizes))) != 1:
        raise ValueError("columns of another type or length")
    rows = np.zeros(len(columns["id"]), _ROW)
    for key, column in columns.items():
        rows[key] = column
    return ClipSet(np.unique(rows))


def _rows(clips: Iterable[Clip], stamps: Mapping[str, str]) -> npt.NDArray[Any]:
    """A row a clip, in the order given."""
    real = cache(lambda path: _digest(os.path.realpath(path)))
    rows = [
        (
            _digest(clip.id),
            real(clip.path),
            _digest(stamps[clip.path]) if stamps.get(clip.path) else 0,
            clip.start,
            math.inf if clip.end is None else clip.end,
        )
        for clip in clips
    ]
    return np.array(rows, _ROW)


def _digest(text: str) -> int:
    found = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(found[:8], "little", signed=True)
