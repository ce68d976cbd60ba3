"""Manifests on disk: write-once files, one a split and state of the data; the newest holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from c4c.cache.plan import Manifest, safe_name
from c4c.core.errors import C4CError, Misplaced, NewerVersion, Unreadable
from c4c.core.files import json_bytes, read_bytes, write_once
from c4c.core.inside import is_there, list_folder, refuse_links
from c4c.core.schema import read_record, sealed

SCHEMA = 1
REMEDY = "put back a copy of it, or extract anew into another --cache"


def save_manifest(cache: Path, manifest: Manifest) -> None:
    """Write a manifest; of several processes that plan at once, the first one's holds.

    Raises:
        C4CError: another run planned something else meanwhile.
    """
    data = json_bytes(sealed(_pack(manifest)))
    path = cache / "manifests" / f"{safe_name(manifest.split)}.{manifest.number:04d}.json"
    write_once(path, data, cache / "tmp")
    if read_bytes(path) != data:
        raise C4CError(
            f"{cache}: another run planned '{manifest.split}' at the same time; "
            "run the same command again."
        )


def manifest_damage(cache: Path) -> list[str]:
    """Manifests that cannot be read, or were changed since they were written, a line each."""
    found = []
    for path in _manifest_paths(cache):
        try:
            _read(path, cache)
        except (Unreadable, NewerVersion, Misplaced):
            raise  # nothing says that it was changed
        except C4CError as error:
            found.append(str(error))
    return found


def load_manifests(cache: Path) -> dict[str, Manifest]:
    """The manifest that holds for each split.

    Raises:
        C4CError: a manifest that is not one, or two that claim the same number.
    """
    newest: dict[str, Manifest] = {}
    for path, manifest in sorted(_read_all(cache).items()):
        other = newest.get(manifest.split)
        if other and other.number == manifest.number:
            raise C4CError(
                f"{cache}: two runs with different clips of '{manifest.split}' planned at once "
                f"({path.name}); delete that file and extract again."
            )
        if other is None or other.number < manifest.number:
            newest[manifest.split] = manifest
    return newest


def _read_all(cache: Path) -> dict[Path, Manifest]:
    """Every manifest; anew when a compaction removes one while they are read."""
    found = {}
    for path in _manifest_paths(cache):
        try:
            found[path] = _read(path, cache)
        except C4CError:
            if os.path.lexists(path):
                raise
            return _read_all(cache)
    return found


def _manifest_paths(cache: Path) -> list[Path]:
    refuse_links(cache / "manifests", cache)
    folder = cache / "manifests"
    return [folder / entry.name for entry in list_folder(folder) if entry.name.endswith(".json")]


def _read(path: Path, cache: Path) -> Manifest:
    is_there(path, cache)  # a regular file: no link, no pipe
    return read_record(path, Manifest, SCHEMA, REMEDY)


def known_videos(cache: Path) -> set[str]:
    """Paths of the videos that any plan names, be it superseded."""
    return {clip.path for manifest in _read_all(cache).values() for clip in manifest.clips}


def superseded(cache: Path) -> tuple[list[Path], list[Path]]:
    """What no longer holds: (shards that only older manifests name, those manifests)."""
    manifests = _read_all(cache)
    newest = load_manifests(cache)
    old = {p: m for p, m in manifests.items() if m.number < newest[m.split].number}
    holding = {path for m in newest.values() for path, _ in m.shards(cache)}
    shards = {path for m in old.values() for path, _ in m.shards(cache)} - holding
    return sorted(path for path in shards if is_there(path, cache)), sorted(old)


def _pack(manifest: Manifest) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "dataset": manifest.dataset,
        "split": manifest.split,
        "number": manifest.number,
        "clips": [[c.id, c.path, c.start, c.end] for c in manifest.clips],
        "captions": [[c.id, c.clip_id, c.text] for c in manifest.captions],
        "missing": manifest.missing,
        "twins": manifest.twins,
        "parts": [[part.name, part.ids] for part in manifest.parts],
        "caption_parts": [[part.name, part.ids] for part in manifest.caption_parts],
        "files": manifest.files,
        **({"hashes": manifest.hashes} if manifest.hashes else {}),
        **({"copies": manifest.copies} if manifest.copies else {}),
    }
