"""The shard: one write-once HDF5 file of features, and the checks before one is trusted.

Contiguous, uncompressed, hard links only, so a reader in any language can map it into memory
(docs/cache-format.md). A shard stands complete and verified under its name, or not at all.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError
from c4c.extract.hdf5 import Image, array_of, map_file
from c4c.files import write_once

SCHEMA = 2  # 1 had checksums of the features alone, and no digest; it is still read
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
        crc32: uint32 [N], of everything that a row holds (``_row_crc``).
        status: uint8 [N], place in ``STATUS``; a row that is not ok or partial has no frames.
        texts: the columns of ``TEXTS[kind]``, N texts each.
        schema: of the file it was read from.
    """

    kind: str
    features: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float32]
    crc32: npt.NDArray[np.uint32]
    status: npt.NDArray[np.uint8]
    texts: dict[str, list[str]]
    schema: int = SCHEMA

    def row(self, place: int) -> npt.NDArray[np.float16]:
        """Features of one row, [frames, D]."""
        return self.features[self.offsets[place] : self.offsets[place + 1]]

    def seconds(self, place: int) -> npt.NDArray[np.float32]:
        """Times of one row, [frames]."""
        return self.times[self.offsets[place] : self.offsets[place + 1]]

    def damaged(self) -> list[str]:
        """Ids of the rows whose bytes do not give their crc32."""
        return [
            name
            for place, name in enumerate(self.texts["ids"])
            if self._crc(place) != self.crc32[place]
        ]

    def _crc(self, place: int) -> int:
        if self.schema == 1:
            return zlib.crc32(np.ascontiguousarray(self.row(place)).data)
        texts = [column[place] for column in self.texts.values()]
        return _row_crc(self.row(place), self.seconds(place), int(self.status[place]), texts)


def _row_crc(
    features: npt.NDArray[np.float16],
    times: npt.NDArray[np.float32],
    status: int,
    texts: Sequence[str],
) -> int:
    """CRC-32 of a row: features, times, status byte, then its texts, one behind the other."""
    found = zlib.crc32(np.ascontiguousarray(features).data)
    found = zlib.crc32(np.ascontiguousarray(times).data, found)
    return zlib.crc32(b"".join([bytes([status]), *map(_encode, texts)]), found)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


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
    codes = [STATUS.index(word) for word in status]
    columns = list(zip(*(texts[name] for name in TEXTS[kind]), strict=True))
    found = [_row_crc(*row) for row in zip(rows, times, codes, columns, strict=True)]
    return Shard(
        kind=kind,
        features=np.concatenate([np.zeros((0, dim), np.float16), *rows]),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        times=np.concatenate([np.zeros(0, np.float32), *times]),
        crc32=np.array(found, np.uint32),
        status=np.array(codes, np.uint8),
        texts={name: texts[name] for name in TEXTS[kind]},
    )


def write_shard(path: Path, shard: Shard, tmp: Path) -> None:
    """Commit ``shard`` under ``path``: write aside, verify, fsync, link, fsync the folder.

    When another process committed the same name first, its file stays and this one goes.

    Raises:
        C4CError: it cannot be written (disk full, read-only), or reads back otherwise.
    """
    image = _image(shard)
    write_once(path, image + _trailer(image), tmp, check=_insist)


def _insist(path: Path) -> None:
    found = shard_damage(path)
    if found:
        raise C4CError(f"What was written reads back otherwise; is the disk ok? {found[0]}")


def _image(shard: Shard) -> bytes:
    """The file's bytes, built in memory: HDF5 writing to a full disk takes Python down."""
    arrays = {name: getattr(shard, name) for name in _ARRAYS}
    for name, texts in shard.texts.items():
        blob = [_encode(text) for text in texts]
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(blob), np.uint8)
        arrays[f"{name}_offsets"] = np.cumsum([0, *map(len, blob)], dtype=np.int64)
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=("earliest", "v110")) as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["kind"] = np.bytes_(shard.kind)
        file.attrs["tables_crc32"] = np.uint32(_tables_crc(arrays))
        for name, data in arrays.items():
            file.create_dataset(name, data=data, track_times=False)
    return memory.getvalue()


def _tables_crc(arrays: dict[str, npt.NDArray[np.generic]]) -> int:
    """CRC-32 of all that says where a row lies and what it is: every array but these two."""
    found = 0
    for name, data in arrays.items():
        if name not in ("features", "times"):
            found = zlib.crc32(np.ascontiguousarray(data).data, found)
    return found


_MARK = b"c4cshard"
_TRAILER = 32 + len(_MARK)


def _trailer(image: bytes | memoryview) -> bytes:
    """What follows the HDF5 part: its SHA-256, and a mark that a file cut short has lost."""
    return hashlib.sha256(image).digest() + _MARK


def shard_damage(path: Path) -> list[str]:
    """What is wrong with a shard, a line each; none when every byte is as it was written."""
    try:
        shard, whole = _load(path)
        image = map_file(path)
    except C4CError as error:
        return [str(error)]
    except OSError as error:
        return [f"Cannot read {path}: {error.strerror}."]
    found = [f"{path}: '{name}': bytes differ from their checksum" for name in shard.damaged()]
    if shard.schema > 1:
        whole = whole and image[-_TRAILER:].tobytes() == _trailer(image[:-_TRAILER].data)
    if not found and not whole:
        found = [f"{path}: bytes beside those of the clips differ from the shard's checksum"]
    return found


def read_shard(path: Path) -> Shard:
    """Open a shard; features are mapped, not read.

    The file is distrusted (``hdf5.py``), and its tables are checked; ``shard_damage`` checks
    every byte.

    Raises:
        C4CError: missing, not HDF5, cut short, damaged, of another schema, or made to mislead.
    """
    shard, whole = _load(path)
    if not whole:
        raise C4CError(
            f"{path}: its tables differ from their checksum; c4c cache verify --repair sets it "
            "aside, and extraction makes it anew."
        )
    return shard


def _load(path: Path) -> tuple[Shard, bool]:
    """A shard, and whether its tables agree with their checksum."""
    try:
        image = map_file(path)
        with h5py.File(path, "r", locking=False) as file:
            schema, kind = _heading(path, file, image)
            arrays: dict[str, Any] = {
                name: array_of(path, file, name, dtype, rank, image)
                for name, (dtype, rank) in _ARRAYS.items()
            }
            for name in TEXTS[kind]:
                for end, dtype in _ENDS.items():
                    arrays[name + end] = array_of(path, file, name + end, dtype, 1, image)
            extra = set(file) - set(arrays)
            whole = schema == 1 or _tables_crc(arrays) == int(file.attrs["tables_crc32"])
        texts = {name: _texts(path, arrays, name) for name in TEXTS[kind]}
    except C4CError:
        raise
    except FileNotFoundError:
        raise C4CError(f"Shard {path} is missing; run the extraction again.") from None
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, UnicodeError) as error:
        reason = (str(error).splitlines() or ["unreadable"])[0][:160]
        raise C4CError(f"{path} is not a usable shard: {reason}.") from None
    if extra:
        raise C4CError(f"{path} holds '{sorted(extra)[0]}', which no shard has; do not trust it.")
    own = {name: arrays[name] for name in _ARRAYS}
    shard = Shard(kind=kind, texts=texts, schema=schema, **own)
    _check(path, shard)
    return shard, whole


_ENDS = {"_bytes": np.uint8, "_offsets": np.int64}


def _heading(path: Path, file: h5py.File, image: Image) -> tuple[int, str]:
    schema = file.attrs.get("schema")
    if schema not in (1, SCHEMA):
        raise C4CError(f"{path} has schema {schema}, this c4c reads up to {SCHEMA}; upgrade c4c?")
    ended = image[-len(_MARK) :].tobytes() == _MARK
    if ended != (schema == SCHEMA):
        raise C4CError(f"{path}: the end of a shard is missing; it is cut short.")
    kind = bytes(file.attrs["kind"]).decode()
    if kind not in TEXTS:
        raise C4CError(f"{path} is a shard of '{kind}', expected clips or captions.")
    return int(schema), kind


def _texts(path: Path, arrays: dict[str, npt.NDArray[np.generic]], name: str) -> list[str]:
    blob = arrays[f"{name}_bytes"].tobytes()
    ends = arrays[f"{name}_offsets"]
    if len(ends) == 0 or ends[0] != 0 or ends[-1] != len(blob) or (np.diff(ends) < 0).any():
        raise C4CError(f"{path}: the offsets of '{name}' are not increasing; it is damaged.")
    bounds = ends.tolist()
    return [
        blob[a:b].decode("utf-8", "surrogateescape")
        for a, b in zip(bounds[:-1], bounds[1:], strict=True)
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
