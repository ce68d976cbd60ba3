"""Compaction: many small shards, and what later plans left behind, to full shards.

The new shards are committed first, then the plan that names them, and only then does the old
go. Cut short at any point, the cache holds what it held; repeated, compaction goes on.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from c4c.errors import C4CError
from c4c.extract.cache import Cache, find_cache
from c4c.extract.manifest import Manifest, Part, part_name, save_manifest, superseded
from c4c.extract.shards import STATUS, Shard, make_shard, read_shard, shard_damage, write_shard
from c4c.files import fsync_folder

_STALE = 3600.0  # seconds after which a temporary file has no living writer


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did: shards before and after, and bytes freed."""

    before: int
    after: int
    freed: int


def compact(path: Path | None, shard_clips: int) -> Compacted:
    """Rewrite a cache with ``shard_clips`` clips a shard (captions: 16 times as many).

    Raises:
        C4CError: the cache is incomplete or damaged, cannot be written, or changed meanwhile.
    """
    cache = Cache.open(find_cache(path))
    before = len(list((cache.path / "shards").rglob("*.h5")))
    for manifest in cache.manifests.values():
        _compact_split(cache.path, manifest, shard_clips)
    freed = _sweep(cache.path)
    return Compacted(before, len(list((cache.path / "shards").rglob("*.h5"))), freed)


def _compact_split(cache: Path, manifest: Manifest, size: int) -> None:
    parts = _merge(cache, manifest, "clips", manifest.parts, size)
    captions = _merge(cache, manifest, "captions", manifest.caption_parts, 16 * size)
    if (parts, captions) != (manifest.parts, manifest.caption_parts):
        number = manifest.number + 1
        save_manifest(cache, replace(manifest, number=number, parts=parts, caption_parts=captions))


def _merge(
    cache: Path, manifest: Manifest, kind: str, parts: tuple[Part, ...], size: int
) -> tuple[Part, ...]:
    """Commit full shards with the rows of ``parts``; the same parts where nothing is gained."""
    paths = [manifest.shard_path(cache, part, kind) for part in parts]
    wrong = [line for path in paths for line in shard_damage(path)]
    if wrong:
        raise C4CError(f"{wrong[0]} Verify, repair and extract before compacting.")
    ids = [name for part in parts for name in part.ids]
    held = sum(len(read_shard(path).status) for path in paths)
    if held == len(ids) and len(parts) <= math.ceil(len(ids) / size):
        return parts
    source = {name: path for part, path in zip(parts, paths, strict=True) for name in part.ids}
    fresh = []
    for first in range(0, len(ids), size):
        own = tuple(sorted(ids)[first : first + size])
        name = part_name(manifest.number, first // size, ["compacted", *parts_of(own, source)])
        part = Part(name, own)
        shard = _gather(own, source, kind)
        write_shard(manifest.shard_path(cache, part, kind), shard, cache / "tmp")
        fresh.append(part)
    return tuple(fresh)


def parts_of(ids: tuple[str, ...], source: dict[str, Path]) -> list[str]:
    """Which rows of which shards: what a compacted shard is a function of."""
    return [word for name in ids for word in (name, source[name].name)]


def _gather(ids: tuple[str, ...], source: dict[str, Path], kind: str) -> Shard:
    opened = {path: read_shard(path) for path in {source[name] for name in ids}}
    rows_of = {p: {name: row for row, name in enumerate(s.texts["ids"])} for p, s in opened.items()}
    found = [(opened[source[name]], rows_of[source[name]][name]) for name in ids]
    first = found[0][0]
    return make_shard(
        kind,
        [shard.row(row) for shard, row in found],
        [shard.seconds(row) for shard, row in found],
        [STATUS[shard.status[row]] for shard, row in found],
        {column: [shard.texts[column][row] for shard, row in found] for column in first.texts},
        first.features.shape[1],
    )


def _sweep(cache: Path) -> int:
    """Remove what no longer holds, shards first, and temporary files of the dead; bytes freed."""
    shards, manifests = superseded(cache)
    stale = _stale(cache)
    freed = sum(path.stat().st_size for path in (*shards, *manifests, *stale))
    try:
        for path in (*shards, *manifests, *stale):
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in (*shards, *manifests)}:
            fsync_folder(folder)
    except OSError as error:
        raise C4CError(f"Cannot clean {cache}: {error.strerror}.") from None
    return freed


def _stale(cache: Path) -> list[Path]:
    """Old temporary files, by the file system's clock and not by this machine's."""
    try:
        with tempfile.NamedTemporaryFile(dir=cache, prefix=".tmp-") as probe:
            now = os.stat(probe.name).st_mtime
    except OSError as error:
        raise C4CError(f"Cannot write to {cache}: {error.strerror}.") from None
    found = [*(cache / "tmp").glob("*"), *cache.glob(".tmp-*"), *cache.glob("manifests/.tmp-*")]
    return [path for path in found if path.exists() and now - path.stat().st_mtime > _STALE]
