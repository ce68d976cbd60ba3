"""Pruning: clips whose files are gone leave the plan; to be forgotten, their rows go too."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from c4c.cache.compact import rewrite, sweep
from c4c.cache.manifests import known_videos, save_manifest
from c4c.cache.open import Cache, find_cache
from c4c.cache.pieces import pieces_folder, remove_pieces
from c4c.cache.plan import Manifest, Part
from c4c.core.errors import C4CError
from c4c.core.home import own_folder
from c4c.core.inside import refuse_links, regular_files
from c4c.core.records import Clip

GALLERY = "gallery"  # the folder of galleries (retrieval/gallery_refresh.py)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning did.

    Attributes:
        clips: those that were removed.
        left: how many clips are planned still.
        freed: bytes.
        forgotten: paths of the videos that do not exist any more, also of those that an earlier
            pruning removed; of a pruning that forgets.
    """

    clips: tuple[Clip, ...]
    left: int
    freed: int
    forgotten: tuple[str, ...] = ()


def prune(path: Path | None, forget: bool) -> Pruned:
    """Remove the clips whose video does not exist any more.

    Args:
        path: the cache.
        forget: remove their rows from the shards too, the plans that name them, and galleries,
            which the next search makes anew.

    Raises:
        C4CError: no cache there, none of its videos exists, or it cannot be written.
    """
    cache = Cache.open(find_cache(path))
    manifests = cache.manifests
    gone = {clip.path for m in manifests.values() for clip in m.clips if _is_gone(clip.path)}
    every = {clip.path for manifest in manifests.values() for clip in manifest.clips}
    if gone and gone == every:
        raise C4CError(
            f"None of the {len(every)} videos of {cache.path} exists (first {min(every)}); are "
            "their disks mounted? To give up all of them, remove the cache."
        )
    removed: list[Clip] = []
    for manifest in manifests.values():
        removed += _prune_split(cache, manifest, gone)
    cache = Cache.open(cache.path)
    freed, forgotten = 0, set[str]()
    if forget:
        forgotten = set(filter(_is_gone, known_videos(cache.path)))
        for manifest in cache.manifests.values():
            rewrite(cache.owner, manifest)
        freed = sweep(cache.path) + _forget_galleries(cache.path)
    left = sum(len(manifest.clips) for manifest in cache.manifests.values())
    return Pruned(tuple(removed), left, freed, tuple(sorted(forgotten)))


def _forget_galleries(cache: Path) -> int:
    """Remove the galleries, whose pieces hold vectors of all clips that there were; their bytes."""
    refuse_links(cache / GALLERY, cache)
    freed, own = 0, own_galleries(cache)
    for folder in (cache / GALLERY, *([own] if own else [])):
        for path in regular_files(folder):
            freed += os.lstat(path).st_size
            path.unlink(missing_ok=True)
    return freed


def own_galleries(cache: Path) -> Path | None:
    """The user's folder of galleries of a cache that could not be written; ``None``: no home."""
    own = own_folder("XDG_CACHE_HOME", ".cache")
    name = hashlib.sha256(os.fsencode(os.path.realpath(cache))).hexdigest()
    return own / GALLERY / name[:32] if own else None


def _is_gone(path: str) -> bool:
    """Whether a file does not exist; one that cannot be looked at may."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _prune_split(cache: Cache, manifest: Manifest, gone: set[str]) -> list[Clip]:
    removed = [clip for clip in manifest.clips if clip.path in gone]
    if not removed:
        return []
    ids = {clip.id for clip in removed}
    texts = {one.id for one in manifest.captions if one.clip_id in ids}
    # The annotations of a benchmark go on naming its clips.
    missing = () if manifest.dataset == "folder" else tuple(sorted(ids))
    fresh = replace(
        manifest,
        number=manifest.number + 1,
        clips=tuple(clip for clip in manifest.clips if clip.id not in ids),
        captions=tuple(one for one in manifest.captions if one.id not in texts),
        missing=tuple(sorted({*manifest.missing, *missing})),
        twins={a: b for a, b in manifest.twins.items() if not {a, b} & ids},
        parts=_without(manifest.parts, ids),
        caption_parts=_without(manifest.caption_parts, texts),
        files={path: stamp for path, stamp in manifest.files.items() if path not in gone},
        hashes={path: digest for path, digest in manifest.hashes.items() if path not in gone},
        copies={name: of for name, of in manifest.copies.items() if name not in ids},
    )
    save_manifest(cache.path, fresh)
    for part in manifest.parts:
        if ids.issuperset(part.ids):
            remove_pieces(pieces_folder(cache.path, manifest, part))
    return removed


def _without(parts: Sequence[Part], ids: set[str]) -> tuple[Part, ...]:
    left = (Part(part.name, tuple(one for one in part.ids if one not in ids)) for part in parts)
    return tuple(part for part in left if part.ids)
