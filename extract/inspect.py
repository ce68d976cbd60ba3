"""Looking into a cache: what it holds, and what is damaged in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from c4c.errors import C4CError
from c4c.extract.cache import Cache, find_cache
from c4c.extract.manifest import manifest_damage, superseded
from c4c.extract.shards import STATUS, read_shard, shard_damage


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
    yield from manifest_damage(cache.path)
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
