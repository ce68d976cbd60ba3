"""Looking into a cache: what it holds, what is damaged in it, its content for other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from c4c.errors import C4CError
from c4c.extract.cache import Cache, ClipFeatures, find_cache
from c4c.extract.head_init import head_init_damage
from c4c.extract.manifest import Manifest, manifest_damage, superseded
from c4c.extract.shards import STATUS, read_shard, shard_damage
from c4c.files import write_atomic


def describe(path: Path | None) -> dict[str, Any]:
    """What a cache holds, as plain data.

    Raises:
        C4CError: no cache there, or shards that are missing or damaged.
    """
    cache = Cache.open(find_cache(path))
    splits = {split: _describe_split(cache, split) for split in cache.splits}
    return {
        "path": str(cache.path),
        "dataset": cache.dataset,
        "fingerprint": asdict(cache.fingerprint),
        "bytes": sum(one.stat().st_size for one in cache.path.rglob("*.h5")),
        "splits": splits,
    }


def _describe_split(cache: Cache, split: str) -> dict[str, Any]:
    clips, manifest = cache.clips(split), cache.manifests[split]
    shards = [read_shard(manifest.shard_path(cache.path, p, "clips")) for p in manifest.parts]
    partial = sum(int((shard.status == STATUS.index("partial")).sum()) for shard in shards)
    return {
        "clips": len(clips),
        "expected": clips.expected,
        "frames": int(clips.lengths.sum()),
        "captions": len(manifest.captions),
        "missing": list(clips.missing),
        "failed": [asdict(failure) for failure in clips.failed],
        "partial": partial,
    }


def damage(path: Path | None, repair: bool = False) -> Iterator[str]:
    """Everything in a cache that is missing, changed or unknown, a line each.

    Args:
        path: the cache.
        repair: set damaged shards aside (``….h5.damaged``), so that extraction makes them anew.

    Raises:
        C4CError: no cache there, or a shard cannot be set aside.
    """
    cache = Cache.open(find_cache(path))
    aside = _set_aside if repair else None
    yield from map(str, head_init_damage(cache.path, cache.fingerprint.sha256, aside))
    if planned := manifest_damage(cache.path):
        yield from planned
        return  # without the plan nobody knows which shards should be there
    known = {where for m in cache.manifests.values() for where, _ in m.shards(cache.path)}
    known |= set(superseded(cache.path)[0])
    for manifest in cache.manifests.values():
        for where, part in manifest.shards(cache.path):
            found = _wrong_with(where, set(part.ids))
            yield from found
            if found and repair and where.exists():
                yield f"{where}: set aside as {_set_aside(where).name}"
    for extra in sorted(set((cache.path / "shards").rglob("*.h5")) - known):
        yield f"{extra}: in no manifest, so never read; from elsewhere, or a compaction cut short"


def _wrong_with(path: Path, expected: set[str]) -> list[str]:
    found = shard_damage(path)
    if found:
        return found
    shard = read_shard(path)
    for place, name in enumerate(shard.texts["ids"]):
        row = shard.row(place)
        if not np.isfinite(row).all():
            found.append(f"{path}: '{name}': features are not finite")
        elif not (row.any(axis=1)).all():
            found.append(f"{path}: '{name}': a frame's features are all zero")
    missing = sorted(expected - set(shard.texts["ids"]))
    return found + [f"{path}: '{one}': named by the manifest, not in the shard" for one in missing]


def _set_aside(path: Path) -> Path:
    target = path.with_name(path.name + ".damaged")
    try:
        path.rename(target)
    except OSError as error:
        raise C4CError(f"Cannot set {path} aside: {error.strerror}.") from None
    return target


def export_cache(path: Path | None, split: str | None, kind: str, out: Path) -> list[Path]:
    """Write clip features as ``npy`` (packed, with a table) or ``parquet`` (a row a clip).

    Raises:
        C4CError: no such cache or split, nowhere to write, or pyarrow is not installed.
    """
    cache = Cache.open(find_cache(path))
    written = []
    for name in [split] if split else cache.splits:
        clips, manifest = cache.clips(name), cache.manifests.get(name)
        if manifest is not None:
            write = _write_npy if kind == "npy" else _write_parquet
            written += write(out, clips, manifest)
    return written


def _rows(clips: ClipFeatures) -> list[dict[str, Any]]:
    return [
        {"id": c.id, "path": c.path, "start": c.start, "end": c.end, "frames": int(n)}
        for c, n in zip(clips.clips, clips.lengths, strict=True)
    ]


def _write_npy(out: Path, clips: ClipFeatures, manifest: Manifest) -> list[Path]:
    packed = [clips.read(index)[0] for index in range(len(clips))]
    features = np.concatenate([np.zeros((0, clips.dim), np.float16), *packed])
    offsets = np.concatenate([[0], np.cumsum(clips.lengths)]).astype(np.int64)
    paths = [out / f"{manifest.split}.{what}.npy" for what in ("features", "offsets")]
    for path, array in zip(paths, (features, offsets), strict=True):
        write_atomic(path, _saver(array))
    table = out / f"{manifest.split}.clips.jsonl"
    write_atomic(table, "".join(json.dumps(row) + "\n" for row in _rows(clips)).encode())
    return [*paths, table]


def _saver(array: Any) -> Any:
    def save(target: Path) -> None:
        with target.open("wb") as stream:
            np.save(stream, array)

    return save


def _write_parquet(out: Path, clips: ClipFeatures, manifest: Manifest) -> list[Path]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise C4CError("Parquet needs pyarrow: pip install 'c4c[parquet]'.") from None
    rows = _rows(clips)
    for index, row in enumerate(rows):
        row["features"] = clips.read(index)[0].astype(np.float32).ravel().tolist()
    path = out / f"{manifest.split}.parquet"
    write_atomic(path, lambda target: pq.write_table(pa.Table.from_pylist(rows), target))
    return [path]
