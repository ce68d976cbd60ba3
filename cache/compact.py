"""Compaction: many small shards, and what later plans left behind, to full shards.

The new shards are committed first, then the plan that names them, and only then does the old
go. Cut short at any point, the cache holds what it held; repeated, compaction goes on.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from c4c.cache.identity import Owner
from c4c.cache.manifests import save_manifest, superseded
from c4c.cache.open import Cache, find_cache, list_shards
from c4c.cache.plan import Manifest, Part, part_name
from c4c.cache.rows import gather
from c4c.cache.shard import Shard
from c4c.cache.stored import read_shard, shard_damage, write_shard
from c4c.core.durable import fsync_folder
from c4c.core.errors import C4CError
from c4c.core.inside import is_there, list_folder, refuse_links

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
    refuse_links(cache.path / "tmp", cache.path)
    before = len(list_shards(cache.path))
    for manifest in cache.manifests.values():
        _compact_split(cache.owner, manifest, shard_clips)
    freed = sweep(cache.path)
    return Compacted(before, len(list_shards(cache.path)), freed)


def _compact_split(owner: Owner, manifest: Manifest, size: int) -> None:
    parts = _merge(owner, manifest, "clips", manifest.parts, size)
    captions = _merge(owner, manifest, "captions", manifest.caption_parts, 16 * size)
    if {*parts, *captions} != {*manifest.parts, *manifest.caption_parts}:
        fresh = replace(manifest, number=manifest.number + 1, parts=parts, caption_parts=captions)
        save_manifest(owner.path, fresh)


def _merge(
    owner: Owner, manifest: Manifest, kind: str, parts: tuple[Part, ...], size: int
) -> tuple[Part, ...]:
    """The rows of ``parts`` in full shards, which are committed.

    What unbound shards hold stays unbound: nobody can vouch for it afterwards. A shard holds
    clips of one revision of the rules of decoding.
    """
    paths = {part: manifest.shard_path(owner.path, part, kind) for part in parts}
    wrong = [line for path in paths.values() for line in shard_damage(path, owner)]
    if wrong:
        raise C4CError(f"{wrong[0]} Verify, repair and extract before compacting.")
    groups: dict[tuple[bool, int], dict[Part, Path]] = {}
    for part, path in paths.items():
        shard = read_shard(path, owner)
        groups.setdefault((not shard.bound, shard.rules), {})[part] = path
    nobody = replace(owner, identity="")
    return tuple(
        part
        for (unbound, _), own in sorted(groups.items(), key=lambda group: group[0])
        for part in _fill(nobody if unbound else owner, manifest, kind, own, size)
    )


def _fill(
    owner: Owner, manifest: Manifest, kind: str, paths: dict[Part, Path], size: int
) -> tuple[Part, ...]:
    """Commit full shards with the rows of some; the same ones where nothing is gained."""
    ids = [name for part in paths for name in part.ids]
    held = sum(len(read_shard(path).status) for path in paths.values())
    if held == len(ids) and len(paths) <= math.ceil(len(ids) / size):
        return tuple(paths)
    source = {name: path for part, path in paths.items() for name in part.ids}
    fresh = []
    for first in range(0, len(ids), size):
        own = tuple(sorted(ids)[first : first + size])
        name = part_name(manifest.number, first // size, ["compacted", *parts_of(own, source)])
        part = Part(name, own)
        shard = _gather(own, source, kind)
        write_shard(manifest.shard_path(owner.path, part, kind), shard, owner)
        fresh.append(part)
    return tuple(fresh)


def parts_of(ids: tuple[str, ...], source: dict[str, Path]) -> list[str]:
    """Which rows of which shards: what a compacted shard is a function of."""
    return [word for name in ids for word in (name, source[name].name)]


def _gather(ids: tuple[str, ...], source: dict[str, Path], kind: str) -> Shard:
    opened = {path: read_shard(path) for path in {source[name] for name in ids}}
    rows_of = {p: {name: row for row, name in enumerate(s.texts["ids"])} for p, s in opened.items()}
    return gather(kind, ids, [(opened[source[name]], rows_of[source[name]][name]) for name in ids])


def rewrite(owner: Owner, manifest: Manifest) -> None:
    """Commit anew, without them, the shards that hold rows which the plan does not take.

    Shards that are not there are left to the extraction.

    Raises:
        C4CError: a shard is damaged, or cannot be written.
    """
    parts = _rewritten(owner, manifest, "clips", manifest.parts)
    captions = _rewritten(owner, manifest, "captions", manifest.caption_parts)
    if (parts, captions) != (manifest.parts, manifest.caption_parts):
        fresh = replace(manifest, number=manifest.number + 1, parts=parts, caption_parts=captions)
        save_manifest(owner.path, fresh)


def _rewritten(
    owner: Owner, manifest: Manifest, kind: str, parts: tuple[Part, ...]
) -> tuple[Part, ...]:
    found: list[Part] = []
    for part in parts:
        path = manifest.shard_path(owner.path, part, kind)
        own = (part,) if not is_there(path, owner.path) else None
        found += own or _merge(owner, manifest, kind, (part,), len(part.ids))
    return tuple(found)


def sweep(cache: Path) -> int:
    """Remove what no longer holds, and temporary files of the dead; bytes freed.

    Shards go before the plans that name them, durably: a shard that no plan names stays for ever.
    """
    shards, manifests = superseded(cache)
    freed = 0
    try:
        for group in (shards, manifests, _stale(cache)):
            freed += sum(map(_remove, group))
            for folder in {path.parent for path in group}:
                fsync_folder(folder)
    except OSError as error:
        raise C4CError(f"Cannot clean {cache}: {error.strerror}.") from None
    return freed


def _remove(path: Path) -> int:
    """Remove a file, which another compaction may have done already; its bytes."""
    try:
        size = os.lstat(path).st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _stale(cache: Path) -> list[Path]:
    """Old temporary files, by the file system's clock and not by this machine's."""
    with tempfile.NamedTemporaryFile(dir=cache, prefix=".tmp-") as probe:
        now = os.stat(probe.name).st_mtime
    places = ((cache / "tmp", ""), (cache, ".tmp"), (cache / "manifests", ".tmp"))
    return [path for folder, prefix in places for path in _older(folder, prefix, now - _STALE)]


def _older(folder: Path, prefix: str, moment: float) -> Iterator[Path]:
    """Files last changed before ``moment``; regular ones: c4c makes no others, links lead away."""
    for entry in list_folder(folder):
        with contextlib.suppress(FileNotFoundError):  # its writer has ended meanwhile
            about = entry.stat(follow_symlinks=False)
            ours = entry.name.startswith(prefix) and stat.S_ISREG(about.st_mode)
            if ours and about.st_mtime < moment:
                yield folder / entry.name
