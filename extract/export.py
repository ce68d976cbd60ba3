"""A cache's features for other programs: packed arrays, or a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from c4c.errors import C4CError
from c4c.extract.cache import Cache, ClipFeatures, find_cache
from c4c.extract.manifest import safe_name
from c4c.files import write_atomic


def export_cache(path: Path | None, split: str | None, kind: str, out: Path) -> list[Path]:
    """Write clip features as ``npy`` (packed, with a table) or ``parquet`` (a row a clip).

    Files are named after their split, spelled as in the cache's own folders.

    Raises:
        C4CError: no such cache or split, nowhere to write, or pyarrow is not installed.
    """
    cache = Cache.open(find_cache(path))
    write = _write_npy if kind == "npy" else _write_parquet
    written = []
    for name in [split] if split else cache.splits:
        # The name comes from the cache: as it is it could lead out of the folder.
        written += write(out, cache.clips(name), safe_name(name))
    return written


def _rows(clips: ClipFeatures) -> list[dict[str, Any]]:
    return [
        {"id": c.id, "path": c.path, "start": c.start, "end": c.end, "frames": int(n)}
        for c, n in zip(clips.clips, clips.lengths, strict=True)
    ]


def _write_npy(out: Path, clips: ClipFeatures, name: str) -> list[Path]:
    packed = [clips.read(index)[0] for index in range(len(clips))]
    features = np.concatenate([np.zeros((0, clips.dim), np.float16), *packed])
    offsets = np.concatenate([[0], np.cumsum(clips.lengths)]).astype(np.int64)
    paths = [out / f"{name}.{what}.npy" for what in ("features", "offsets")]
    for path, array in zip(paths, (features, offsets), strict=True):
        write_atomic(path, _saver(array))
    table = out / f"{name}.clips.jsonl"
    write_atomic(table, "".join(json.dumps(row) + "\n" for row in _rows(clips)).encode())
    return [*paths, table]


def _saver(array: Any) -> Any:
    def save(target: Path) -> None:
        with target.open("wb") as stream:
            np.save(stream, array)

    return save


def _write_parquet(out: Path, clips: ClipFeatures, name: str) -> list[Path]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise C4CError("Parquet needs pyarrow: pip install 'c4c[parquet]'.") from None
    rows = _rows(clips)
    for index, row in enumerate(rows):
        row["features"] = clips.read(index)[0].astype(np.float32).ravel().tolist()
    path = out / f"{name}.parquet"
    write_atomic(path, lambda target: pq.write_table(pa.Table.from_pylist(rows), target))
    return [path]
