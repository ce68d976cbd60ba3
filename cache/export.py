"""A cache's content for other programs: clips and captions with their features."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.cache.open import Cache, CaptionFeatures, ClipFeatures, find_cache
from c4c.cache.plan import safe_name
from c4c.core.errors import C4CError
from c4c.core.files import write_atomic

Rows = list[dict[str, Any]]


def export_cache(path: Path | None, split: str | None, kind: str, out: Path) -> list[Path]:
    """Write clips and captions as ``npy`` (packed, with tables) or ``parquet`` (a row each).

    ``npy``: ``SPLIT.features.npy`` [frames, D], ``SPLIT.offsets.npy`` [clips + 1] and
    ``SPLIT.clips.jsonl``; with captions ``SPLIT.texts.npy`` [captions, D] and
    ``SPLIT.captions.jsonl``. ``parquet``: ``SPLIT.parquet``, and ``SPLIT.captions.parquet``.

    Args:
        path: the cache; ``None`` is the only one there is.
        split: one split; ``None`` is all.
        kind: ``npy`` or ``parquet``.
        out: folder to write.

    Returns:
        The files.

    Raises:
        C4CError: no such cache or split, nowhere to write, or pyarrow is not installed.
    """
    cache = Cache.open(find_cache(path))
    write = _write_npy if kind == "npy" else _write_parquet
    written = []
    for name in [split] if split else cache.splits:
        written += write(out / safe_name(name), cache.clips(name), cache.captions(name))
    return written


def _clip_rows(clips: ClipFeatures) -> Rows:
    return [
        {"id": c.id, "path": c.path, "start": c.start, "end": c.end, "frames": int(n)}
        for c, n in zip(clips.clips, clips.lengths, strict=True)
    ]


def _caption_rows(captions: CaptionFeatures) -> Rows:
    return [{"id": c.id, "clip": c.clip_id, "text": c.text} for c in captions.captions]


def _write_npy(prefix: Path, clips: ClipFeatures, captions: CaptionFeatures) -> list[Path]:
    offsets = np.concatenate([[0], np.cumsum(clips.lengths)]).astype(np.int64)
    frames = (clips.read(place)[0] for place in range(len(clips)))
    found = [
        _npy(_named(prefix, "features.npy"), frames, "<f2", (int(offsets[-1]), clips.dim)),
        _npy(_named(prefix, "offsets.npy"), iter([offsets]), "<i8", offsets.shape),
        _jsonl(_named(prefix, "clips.jsonl"), _clip_rows(clips)),
    ]
    if not len(captions):
        return found
    texts = captions.features
    return [
        *found,
        _npy(_named(prefix, "texts.npy"), iter([texts]), "<f2", texts.shape),
        _jsonl(_named(prefix, "captions.jsonl"), _caption_rows(captions)),
    ]


def _named(prefix: Path, what: str) -> Path:
    return prefix.with_name(f"{prefix.name}.{what}")


def _npy(path: Path, parts: Iterator[npt.NDArray[Any]], kind: str, shape: tuple[int, ...]) -> Path:
    """Write an array part by part: it is never whole in memory."""

    def write(target: Path) -> None:
        header = {"descr": kind, "fortran_order": False, "shape": shape}
        with target.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for part in parts:
                stream.write(np.ascontiguousarray(part, kind).tobytes())

    write_atomic(path, write)
    return path


def _jsonl(path: Path, rows: Rows) -> Path:
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return path


def _write_parquet(prefix: Path, clips: ClipFeatures, captions: CaptionFeatures) -> list[Path]:
    rows = _clip_rows(clips)
    found = [_parquet(_named(prefix, "parquet"), rows, lambda place: clips.read(place)[0])]
    if len(captions):
        named = _named(prefix, "captions.parquet")
        texts = captions.features
        found.append(_parquet(named, _caption_rows(captions), lambda place: texts[place]))
    return found


def _parquet(path: Path, rows: Rows, features: Callable[[int], npt.NDArray[Any]]) -> Path:
    """Write a row each, with its features flat in a column of their own."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise C4CError("Parquet needs pyarrow: pip install 'c4c[parquet]'.") from None
    for place, row in enumerate(rows):
        row["features"] = features(place).astype(np.float32).ravel().tolist()
    write_atomic(path, lambda target: pq.write_table(pa.Table.from_pylist(rows), target))
    return path
