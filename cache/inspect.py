"""Looking into a cache: what it holds, and what in it is not as it should be."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from c4c.cache.calibrated import calibrated_damage
from c4c.cache.findings import DAMAGED, MISPLACED, NOTE, Failure, Finding
from c4c.cache.head_init import head_init_damage
from c4c.cache.identity import Owner
from c4c.cache.manifests import load_manifests, manifest_damage, superseded
from c4c.cache.open import Cache, find_cache, list_shards
from c4c.cache.pieces import FOLDER as PIECES
from c4c.cache.plan import Manifest
from c4c.cache.stored import is_bound_to, read_shard, shard_damage
from c4c.core.durable import rename_new
from c4c.core.errors import C4CError, Misplaced, NewerVersion, Unreadable
from c4c.core.inside import is_there, refuse_links, regular_files


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
        "bytes": sum(os.lstat(one).st_size for one in list_shards(cache.path)),
        "splits": splits,
    }


def _describe_split(cache: Cache, split: str) -> dict[str, Any]:
    clips, manifest = cache.clips(split, incomplete=True), cache.manifests[split]
    partial = [asdict(Failure(name, "partial", why)) for name, why in clips.partial.items()]
    return {
        "clips": len(clips),
        "expected": clips.expected,
        "frames": int(clips.lengths.sum()),
        "captions": len(manifest.captions),
        "missing": list(clips.missing),
        "failed": [asdict(failure) for failure in clips.failed],
        "partial": partial,
        "pending": len(clips.pending),
        "decoders": list(clips.decoders),
    }


def damage(path: Path | None, repair: bool = False) -> Iterator[Finding]:
    """Everything in a cache that is not as it should be, a line each, with its state.

    Args:
        path: the cache.
        repair: set shards aside (``….h5.damaged``) that are proven to differ from what was
            written, and no others, so that extraction makes them anew.

    Raises:
        C4CError: no cache there, or a shard cannot be set aside.
    """
    try:
        yield from _damage(Cache.open(find_cache(path)), repair)
    except (Unreadable, NewerVersion, Misplaced) as error:
        yield Finding.of(error)


def _named(cache: Path, manifests: dict[str, Manifest]) -> dict[Path, frozenset[str]]:
    """Shards that the plans name, and the ids of the rows that they take from each."""
    return {
        where: frozenset(part.ids) for m in manifests.values() for where, part in m.shards(cache)
    }


def _damage(cache: Cache, repair: bool) -> Iterator[Finding]:
    aside = _put_aside if repair else None
    init = head_init_damage(cache.path, cache.fingerprint.sha256, aside)
    yield from map(Finding.of, init)
    yield from map(Finding.of, calibrated_damage(cache.path, cache.fingerprint.calibrated))
    if planned := manifest_damage(cache.path):
        yield from map(Finding, planned)
        return  # without the plan nobody knows which shards should be there
    named = _named(cache.path, cache.manifests)
    unbound = []
    todo = list(named)
    for where in todo:
        found = _wrong_with(where, cache.owner, named[where])
        if found and not os.path.lexists(where):
            # A compaction may have moved its rows since the plan was read.
            now = _named(cache.path, load_manifests(cache.path))
            if where not in now:
                todo += [one for one in now if one not in named]
                named |= now
                continue
        yield from found
        if repair and {one.code for one in found} == {DAMAGED}:
            yield from _set_aside(where, cache.owner)
        if not found and not is_bound_to(where, cache.owner):
            unbound.append(where)
    if unbound:
        yield Finding(
            f"{cache.path}: {len(unbound)} of {len(named)} shards are unbound "
            f"(first {unbound[0]}): whole, but they do not say which cache they belong to, as "
            "those of older c4c",
            NOTE,
        )
    yield from _damaged_pieces(cache, repair)
    known = {*named, *superseded(cache.path)[0]}
    for extra in sorted(set(list_shards(cache.path)) - known):
        words = f"{extra}: in no manifest, so never read; from elsewhere, or a compaction cut short"
        yield Finding(words, MISPLACED)


def _damaged_pieces(cache: Cache, repair: bool) -> Iterator[Finding]:
    """What is wrong with pieces of shards that are not complete; a running extraction adds some."""
    refuse_links(cache.path / PIECES, cache.path)
    for piece in sorted(regular_files(cache.path / PIECES, ".h5")):
        found = _wrong_with(piece, cache.owner, frozenset())
        if os.path.lexists(piece):
            yield from found
            if repair and {one.code for one in found} == {DAMAGED}:
                yield from _set_aside(piece, cache.owner)


def _wrong_with(path: Path, owner: Owner, expected: frozenset[str]) -> list[Finding]:
    try:
        is_there(path, owner.path)
        found = shard_damage(path, owner)
        return found or _unfit(path, owner, expected)
    except C4CError as error:
        return [Finding.of(error)]


def _unfit(path: Path, owner: Owner, expected: frozenset[str]) -> list[Finding]:
    """What cannot be right in a shard whose bytes are as they were written."""
    shard = read_shard(path, owner)
    found = []
    for place, name in enumerate(shard.texts["ids"]):
        row = shard.row(place)
        if not np.isfinite(row).all():
            found.append(f"{path}: '{name}': features are not finite")
        elif not (row.any(axis=1)).all():
            found.append(f"{path}: '{name}': a frame's features are all zero")
    missing = sorted(expected - set(shard.texts["ids"]))
    found += [f"{path}: '{one}': named by the manifest, not in the shard" for one in missing]
    return [Finding(f"{line} (its bytes are as they were written)", MISPLACED) for line in found]


def _set_aside(path: Path, owner: Owner) -> Iterator[Finding]:
    """Rename a damaged shard, unless a whole one has come in its place."""
    if {one.code for one in shard_damage(path, owner)} == {DAMAGED} and os.path.lexists(path):
        yield Finding(f"{path}: set aside as {_put_aside(path).name}")


def _put_aside(path: Path) -> Path:
    """Rename a damaged file to a free name ending in ``.damaged``; nothing is replaced."""
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    try:
        return next(target for target in map(path.with_name, names) if rename_new(path, target))
    except OSError as error:
        raise C4CError(f"Cannot set {path} aside: {error.strerror}.") from None
