"""The shard: rows of features, and the HDF5 file that holds them.

Contiguous, uncompressed, hard links only, so a reader in any language can map it into memory
(docs/reference/cache-format.md). ``stored.py`` writes, reads and checks the files.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.cache.hdf5 import Array, Image, Root, read_arrays, read_root
from c4c.cache.seal import LARGEST, MOST_TABLES, End, seal_of
from c4c.core.errors import C4CError, Damaged, NewerVersion

# 1 had checksums of the features alone, 2 no seal; both are still read.
SCHEMA = 3
FIRST_RULES = 1  # of decoding: those of shards that do not say theirs
STATUS = ("ok", "partial", "corrupt", "failed")
_ARRAYS: dict[str, tuple[type, int]] = {
    "features": (np.float16, 2),
    "offsets": (np.int64, 1),
    "times": (np.float32, 1),
    "crc32": (np.uint32, 1),
    "status": (np.uint8, 1),
}
_SEVERAL = "; "
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
        rules: revision of the rules by which frames were taken from the videos; shards of captions
            and those of commit 32ebc70 do not say it.
        schema: of the file it was read from.
        bound: whether that says which cache it belongs to.
        decoder: versions of the decoder that made rows of it, where they are not the one that
            the cache was begun with; with ``; `` between.
    """

    kind: str
    features: npt.NDArray[np.float16]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float32]
    crc32: npt.NDArray[np.uint32]
    status: npt.NDArray[np.uint8]
    texts: dict[str, list[str]]
    rules: int = FIRST_RULES
    schema: int = SCHEMA
    bound: bool = False
    decoder: str = ""

    def row(self, place: int) -> npt.NDArray[np.float16]:
        """Features of one row, [frames, D]."""
        return self.features[self.offsets[place] : self.offsets[place + 1]]

    def seconds(self, place: int) -> npt.NDArray[np.float32]:
        """Times of one row, [frames]."""
        return self.times[self.offsets[place] : self.offsets[place + 1]]

    def damaged(self) -> list[str]:
        """Ids of the rows whose bytes do not give their crc32."""
        return [name for place, name in enumerate(self.texts["ids"]) if not self.intact(place)]

    def intact(self, place: int) -> bool:
        """Whether the bytes of a row give its crc32."""
        return self._crc(place) == int(self.crc32[place])

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
    rules: int = FIRST_RULES,
    decoders: Iterable[str] = (),
) -> Shard:
    """Pack rows into a shard.

    Args:
        kind: ``clips`` or ``captions``.
        rows: float16 [frames, D] each; no frames where something failed.
        times: float32 [frames] each.
        status: a word of ``STATUS`` each.
        texts: the columns of ``TEXTS[kind]``.
        dim: D, for shards in which nothing succeeded.
        rules: by which frames were taken from the videos.
        decoders: as ``Shard.decoder`` has them.
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
        rules=rules,
        decoder=_SEVERAL.join(
            sorted({one for text in decoders for one in text.split(_SEVERAL) if one})
        ),
    )


def pack_shard(shard: Shard, mark: bytes) -> memoryview:
    """The bytes of a shard's file, built in memory: HDF5 writing to a full disk ends Python.

    Args:
        shard: the rows.
        mark: binds the file (``identity.py``).

    Raises:
        C4CError: the shard is too large.
    """
    import h5py

    arrays = {name: getattr(shard, name) for name in _ARRAYS}
    for name, texts in shard.texts.items():
        blob = [_encode(text) for text in texts]
        arrays[f"{name}_bytes"] = np.frombuffer(b"".join(blob), np.uint8)
        arrays[f"{name}_offsets"] = np.cumsum([0, *map(len, blob)], dtype=np.int64)
    tables = sum(data.nbytes for name, data in arrays.items() if name != "features")
    room = 1 << 16  # for HDF5's own bytes
    if tables + room > MOST_TABLES or tables + room + shard.features.nbytes > LARGEST:
        raise C4CError("A shard would be too large to be read; pass a smaller --shard-clips.")
    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=("earliest", "v110")) as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["kind"] = np.bytes_(shard.kind)
        if shard.rules != FIRST_RULES:
            file.attrs["rules"] = shard.rules
        if shard.decoder:
            file.attrs["decoder"] = np.bytes_(shard.decoder)
        for name, data in arrays.items():
            file.create_dataset(name, data=data, track_times=False)
    memory.write(_seal(memory, mark))
    return memory.getbuffer()


def _seal(memory: io.BytesIO, mark: bytes) -> bytes:
    memory.seek(0, io.SEEK_END)
    with memory.getbuffer() as image:
        bytes_of = np.frombuffer(image, np.uint8)
        features = read_arrays(bytes_of, read_root(bytes_of))["features"]
        del bytes_of
        return seal_of(image, features.start, features.start + features.size, mark, SCHEMA)


def parse_shard(image: Image, end: End) -> tuple[Shard, bool]:
    """The shard in a file's bytes, and whether its tables agree with their checksum.

    Args:
        image: uint8 [size]; features become a view of it.
        end: of the same file; its seal, if any, has been checked.

    Raises:
        NewerVersion: it is of a later c4c.
        Damaged: it is no shard.
        MalformedError: nor HDF5 of a shard's form.
    """
    image = image[: end.content]
    root = read_root(image)
    schema, kind = _heading(root, end)
    found = read_arrays(image, root)
    expected: dict[str, tuple[type, int]] = {**_ARRAYS}
    for name in TEXTS[kind]:
        expected |= {name + "_bytes": (np.uint8, 1), name + "_offsets": (np.int64, 1)}
    _check_arrays(found, expected)
    arrays = {name: found[name].of(image) for name in expected}
    agree = schema != 2 or _tables_crc(arrays) == root.attributes.get("tables_crc32")
    own = {name: arrays[name] for name in _ARRAYS}
    texts = {name: _texts(arrays, name) for name in TEXTS[kind]}
    bound = end.seal is not None and end.seal.bound
    rules = root.attributes.get("rules", FIRST_RULES)
    if not isinstance(rules, int) or rules < FIRST_RULES:
        raise Damaged(f"it was decoded by rules {rules!a}, expected a number")
    decoder = root.attributes.get("decoder", b"")
    words = decoder.decode("utf-8", "replace") if isinstance(decoder, bytes) else ""
    about: dict[str, Any] = {**own, "schema": schema, "bound": bound, "decoder": words}
    shard = Shard(kind=kind, texts=texts, rules=rules, **about)
    _check_rows(shard)
    return shard, agree


def _heading(root: Root, end: End) -> tuple[int, str]:
    schema, kind = (root.attributes.get(name) for name in ("schema", "kind"))
    if not isinstance(schema, int) or schema < 1:
        raise Damaged("it says no schema; it is not a shard")
    if schema > SCHEMA:
        raise NewerVersion(f"it has schema {schema}, this c4c reads up to {SCHEMA}; upgrade c4c")
    if (end.closed, end.seal is not None) != (schema > 1, schema > 2):
        raise Damaged("the end of a shard is missing; it is cut short")
    word = kind.decode("latin-1") if isinstance(kind, bytes) else ""
    if word not in TEXTS:
        raise Damaged(f"it is a shard of {word!a}, expected clips or captions")
    return schema, word


def _check_arrays(found: dict[str, Array], expected: dict[str, tuple[type, int]]) -> None:
    extra = sorted(set(found) - set(expected))
    if extra:
        raise Damaged(f"it holds '{extra[0]}', which no shard has; do not trust it")
    for name, (dtype, rank) in expected.items():
        if name not in found:
            raise Damaged(f"'{name}' is missing; it is not a shard")
        if found[name].dtype != dtype or len(found[name].shape) != rank:
            raise Damaged(f"'{name}' is not a plain array of the expected type")
    if sum(one.size for name, one in found.items() if name != "features") > MOST_TABLES:
        raise Damaged("its tables are larger than a shard's")


def _tables_crc(arrays: dict[str, npt.NDArray[np.generic]]) -> int:
    """CRC-32 that schema 2 has of every array but features and times."""
    found = 0
    for name, data in arrays.items():
        if name not in ("features", "times"):
            found = zlib.crc32(np.ascontiguousarray(data).data, found)
    return found


def _texts(arrays: dict[str, npt.NDArray[np.generic]], name: str) -> list[str]:
    blob = arrays[f"{name}_bytes"].tobytes()
    ends = arrays[f"{name}_offsets"]
    if len(ends) == 0 or ends[0] != 0 or ends[-1] != len(blob) or (np.diff(ends) < 0).any():
        raise Damaged(f"the offsets of '{name}' are not increasing")
    bounds = ends.tolist()
    return [
        blob[a:b].decode("utf-8", "surrogateescape")
        for a, b in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def _check_rows(shard: Shard) -> None:
    count, frames = len(shard.offsets) - 1, len(shard.features)
    bounds = shard.offsets
    if count < 0 or bounds[0] != 0 or bounds[-1] != frames or (np.diff(bounds) < 0).any():
        raise Damaged(f"the offsets are not increasing from 0 to {frames}")
    lengths = {"times": frames, "crc32": count, "status": count}
    wrong = [name for name, length in lengths.items() if len(getattr(shard, name)) != length]
    wrong += [name for name, texts in shard.texts.items() if len(texts) != count]
    if wrong or (count and int(shard.status.max()) >= len(STATUS)):
        raise Damaged(f"'{(wrong or ['status'])[0]}' does not fit the other arrays")
