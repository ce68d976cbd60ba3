"""Clips that are copies of others: a stretch of files with the same content is decoded once."""

from __future__ import annotations

from collections.abc import Sequence

from c4c.cache.open import Cache, commit_shard
from c4c.cache.plan import Manifest, Part
from c4c.cache.rows import find_rows, gather
from c4c.core.progress import say
from c4c.extract.settle import undone


def decoded_parts(cache: Cache, manifest: Manifest) -> list[Part]:
    """The parts whose clips are decoded: those of copies are made of others' features.

    A copy of what is planned no more is decoded, too.
    """
    planned = {(one.split, clip.id) for one in cache.manifests.values() for clip in one.clips}
    return [
        part
        for part in manifest.parts
        if not all(manifest.copies.get(name) in planned for name in part.ids)
    ]


def copy_clips(cache: Cache, manifests: Sequence[Manifest]) -> None:
    """Commit the shards of clips that are others' copies, where those are extracted."""
    cache = Cache.open(cache.path)
    todo = [
        (manifest, part)
        for manifest in manifests
        for part in undone(cache, manifest, manifest.parts, "clips")
        if part not in decoded_parts(cache, manifest)
    ]
    if not todo:
        return
    shards, places = find_rows(cache.owner, list(cache.manifests.values()), "clips", True)
    for manifest, part in todo:
        rows = [
            (shards[place[0]], place[1])
            for split, name in (manifest.copies[one] for one in part.ids)
            if (place := places.get((split, name)))
        ]
        if len(rows) < len(part.ids):
            continue  # another slice is still at them
        shard = gather("clips", part.ids, rows)
        commit_shard(cache, manifest.shard_path(cache.path, part, "clips"), shard)
        say(f"{manifest.split}: {len(part.ids)} clips are the same as others and not decoded again")
