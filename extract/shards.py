"""The shard: one write-once HDF5 file of features, and the checks before one is trusted.

Contiguous, uncompressed, hard links only, so a reader in any language can map it into memory.
A shard stands complete and verified under its name, or not at all.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError
from c4c.files import fsync_folder

SCHEMA = 1
STATUS = ("ok", "partial", "corrupt", "failed")
_ARRAYS = {
    "features": (np.float16, 2),
    "offsets": (np.int64, 1),
    "times": (np.float32, 1),
    "crc32": (np.uint32, 1),
    "status": (np.uint8, 1),
}
TEXTS = {"clips": ("ids", "messages"), "captions": ("ids", "clip_ids", "texts")}


@dataclass(frozen=True, slots=True)
class Shard:
    """The content of a shard, N rows of F frames in all.

    Attributes:
        kind: ``clips`` or ``captions``.
        features: float16 [F, D], row after row.
        offsets: int64 [N + 1]; row i has frames ``offsets[i]`` to ``offsets[i + 1]``.
        times: float32 [F], seconds from the start of the clip (zeros for captions).
        crc32: uint32 [N], of each row's feature bytes.
        status: uint8 [N], place in ``STATUS``; a row that is not ok or partial has no frames.
        texts: the columns of ``TEXTS[kind]``, N texts each.
    """

    kind: str
    features: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float32]
    crc32: npt.NDArray[np.uint32]
    status: npt.NDArray[np.uint8]
    texts: dict[str, list[str]]

    def row(self, place: int) -> npt.NDArray[np.float16]:
        """Features of one row, [frames, D]."""
        return self.features[self.offsets[place] : self.offsets[place + 1]]

    def damaged(self) -> list[str]:
        """Ids of the rows whose bytes do not give their crc32."""
        return [
            name
            for place, name in enumerate(self.texts["ids"])
            if zlib.crc32(np.ascontiguousarray(self.row(place)).tobytes()) != self.crc32[place]
        ]


def make_shard(
    kind: str,
    rows: Sequence[npt.NDArray[np.float16]],
    times: Sequence[npt.NDArray[np.float32]],
    status: Sequence[str],
    texts: dict[str, list[str]],
    dim: int,
) -> Shard:
    """Pack rows into a shard.

    Args:
        kind: ``clips`` or ``captions``.
        rows: float16 [frames, D] each; no frames where something failed.
        times: float32 [frames] each.
        status: a word of ``STATUS`` each.
        texts: the columns of ``TEXTS[kind]``.
        dim: D, for shards in which nothing succeeded.
    """
    lengths = [len(row) for row in rows]
    return Shard(
        kind=kind,
        features=np.concatenate([np.zeros((0, dim), np.float16), *rows]),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        times=np.concatenate([np.zeros(0, np.float32), *times]),
        crc32=np.array([zlib.crc32(np.ascontiguousarray(r).tobytes()) for r in rows], np.uint32),
        status=np.array([STATUS.index(word) for word in status], np.uint8),
        texts=texts,
    )


def write_shard(path: Path, shard: Shard, tmp: Path) -> None:
    """Commit ``shard`` under ``path``: write aside, verify, fsync, link, fsync the folder.

    When another process committed the same name first, its file stays and this one goes.

    Raises:
        C4CError: it cannot be written (disk full, read-only), or reads back otherwise.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tmp.mkdir(parents=True, exist_ok=True)
        aside = tmp / f"{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.h5"
        try:
            with aside.open("xb") as stream:
                stream.write(_image(shard))
                stream.flush()
                os.fsync(stream.fileno())
            if read_shard(aside).damaged():
                raise C4CError(f"{aside} reads back other bytes than were written; is the disk ok?")
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
            fsync_folder(path.parent)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise C4CError(f"Cannot write {path}: {error.strerror or error}.") from None


def _image(shard: Shard) -> bytes:
    """The file's bytes, built in memory: HDF5 writing to a full disk takes Python down."""
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=("earliest", "v110")) as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["kind"] = np.bytes_(shard.kind)
        for name in _ARRAYS:
            file.create_dataset(name, data=getattr(shard, name), track_times=False)
        for name, texts in shard.texts.items():
            blob = [text.encode("utf-8", "surrogateescape") for text in texts]
            ends = np.cumsum([0, *map(len, blob)], dtype=np.int64)
            data = np.frombuffer(b"".join(blob), np.uint8)
            file.create_dataset(f"{name}_bytes", data=data, track_times=False)
            file.create_dataset(f"{name}_offsets", data=ends, track_times=False)
    return memory.getvalue()


def read_shard(path: Path) -> Shard:
    """Open a shard; arrays are mapped, not read.

    The file is distrusted: hard links to plain contiguous datasets of the expected types that
    lie within the file, or an error.

    Raises:
        C4CError: missing, not HDF5, cut short, of another schema, or made to mislead.
    """
    try:
        size = path.stat().st_size
        with h5py.File(path, "r") as file:
            kind = _kind(path, file)
            arrays = {
                name: _map(path, file, name, dtype, rank, size)
                for name, (dtype, rank) in _ARRAYS.items()
            }
            texts = {name: _texts(path, file, name, size) for name in TEXTS[kind]}
            extra = set(file) - set(_ARRAYS) - {f"{n}_{e}" for n in texts for e in _ENDS}
    except C4CError:
        raise
    except FileNotFoundError:
        raise C4CError(f"Shard {path} is missing; run the extraction again.") from None
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, UnicodeError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0][:160]
        raise C4CError(f"{path} is not a usable shard: {reason}.") from None
    if extra:
        raise C4CError(f"{path} holds '{sorted(extra)[0]}', which no shard has; do not trust it.")
    shard = Shard(kind=kind, texts=texts, **arrays)
    _check(path, shard)
    return shard


_ENDS = ("bytes", "offsets")


def _kind(path: Path, file: h5py.File) -> str:
    schema = file.attrs.get("schema")
    if schema != SCHEMA:
        raise C4CError(f"{path} has schema {schema}, this c4c reads {SCHEMA}; upgrade c4c?")
    kind = bytes(file.attrs["kind"]).decode()
    if kind not in TEXTS:
        raise C4CError(f"{path} is a shard of '{kind}', expected clips or captions.")
    return kind


def _map(path: Path, file: h5py.File, name: str, dtype: Any, rank: int, size: int) -> Any:
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise C4CError(f"{path}: '{name}' is missing, or a link to elsewhere; not a c4c shard.")
    data = file[name]
    plain = (
        isinstance(data, h5py.Dataset)
        and data.dtype == dtype
        and data.ndim == rank
        and data.chunks is None
        and not data.is_virtual
        and not data.external
    )
    if not plain or data.id.get_create_plist().get_nfilters():
        raise C4CError(f"{path}: '{name}' is not a plain array of the expected type.")
    if data.size == 0:
        return np.zeros(data.shape, dtype)
    offset = data.id.get_offset()
    if offset is None or offset + data.size * data.dtype.itemsize > size:
        raise C4CError(f"{path}: '{name}' claims more bytes than the file has; it is cut short.")
    return np.memmap(path, dtype, "r", offset, data.shape)


def _texts(path: Path, file: h5py.File, name: str, size: int) -> list[str]:
    blob = bytes(_map(path, file, f"{name}_bytes", np.uint8, 1, size))
    ends = _map(path, file, f"{name}_offsets", np.int64, 1, size)
    if len(ends) == 0 or ends[0] != 0 or ends[-1] != len(blob) or (np.diff(ends) < 0).any():
        raise C4CError(f"{path}: the offsets of '{name}' are not increasing; it is damaged.")
    return [
        blob[a:b].decode("utf-8", "surrogateescape")
        for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]


def _check(path: Path, shard: Shard) -> None:
    count, frames = len(shard.offsets) - 1, len(shard.features)
    bounds = shard.offsets
    if count < 0 or bounds[0] != 0 or bounds[-1] != frames or (np.diff(bounds) < 0).any():
        raise C4CError(f"{path}: the offsets are not increasing from 0 to {frames}; damaged.")
    lengths = {"times": frames, "crc32": count, "status": count}
    wrong = [name for name, length in lengths.items() if len(getattr(shard, name)) != length]
    wrong += [name for name, texts in shard.texts.items() if len(texts) != count]
    if wrong or (count and int(shard.status.max()) >= len(STATUS)):
        raise C4CError(f"{path}: '{(wrong or ['status'])[0]}' does not fit the other arrays.")
