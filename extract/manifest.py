"""What a cache is expected to hold: one write-once manifest a split and state of the data.

A manifest names every shard and the rows to take from it. So a missing shard is an error and
not a smaller gallery, late workers share one plan, and when clips are added (or failures are
tried again) only those get new shards.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c4c.errors import C4CError
from c4c.files import json_bytes, read_json, write_once
from c4c.inside import is_there, list_folder, refuse_links
from c4c.records import Caption, Clip, Dataset


@dataclass(frozen=True, slots=True)
class Part:
    """One shard of the plan: its file name and the ids of the rows to take from it."""

    name: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The plan of one split.

    Attributes:
        dataset: the dataset's name.
        split: the split's name.
        number: counts the states of the split's data, from 1; the highest one holds.
        clips: every clip with a video, sorted by id.
        captions: every caption.
        missing: ids of annotated clips without a video.
        twins: clip id to the id of its twin.
        parts: shards of clips; together they hold each clip once.
        caption_parts: shards of captions, likewise.
        files: stamps of the video files as they were when they were planned (``stamps.py``);
            manifests from before they were taken have none.
    """

    dataset: str
    split: str
    number: int
    clips: tuple[Clip, ...]
    captions: tuple[Caption, ...]
    missing: tuple[str, ...]
    twins: dict[str, str]
    parts: tuple[Part, ...]
    caption_parts: tuple[Part, ...]
    files: dict[str, str] = field(default_factory=dict)

    def replaced(self, files: dict[str, str]) -> frozenset[str]:
        """Ids of the clips whose file had another stamp when it was planned.

        A file that is gone for now is not replaced: what was extracted holds.
        """
        return frozenset(
            clip.id
            for clip in self.clips
            if self.files and files.get(clip.path) not in (None, self.files.get(clip.path))
        )

    def shard_path(self, cache: Path, part: Part, kind: str) -> Path:
        """Where a shard lies below the cache folder."""
        return cache / "shards" / safe_name(self.split) / kind / part.name

    def shards(self, cache: Path) -> list[tuple[Path, Part]]:
        """Every shard of the plan: where it lies, and what to take from it."""
        return [
            (self.shard_path(cache, part, kind), part)
            for kind, parts in (("clips", self.parts), ("captions", self.caption_parts))
            for part in parts
        ]


def plan(
    dataset: Dataset,
    before: Manifest | None,
    shard_clips: int,
    again: frozenset[str] = frozenset(),
    files: dict[str, str] | None = None,
) -> Manifest:
    """The manifest for ``dataset``, reusing the shards of ``before`` for what did not change.

    Args:
        dataset: the split as it is now.
        before: the manifest that holds so far.
        shard_clips: clips a shard; captions go 16 times as many.
        again: ids whose clips are to be extracted once more (failures, replaced files).
        files: stamps of the video files as they are now.
    """
    files = {**(before.files if before else {}), **(files or {})}
    files = {clip.path: files[clip.path] for clip in dataset.clips if clip.path in files}
    number = before.number if before else 0
    old_clips = {clip.id: clip for clip in before.clips} if before else {}
    old_captions = {one.id: one for one in before.captions} if before else {}
    keep = {clip.id for clip in dataset.clips if old_clips.get(clip.id) == clip} - again
    keep_text = {one.id for one in dataset.captions if old_captions.get(one.id) == one}
    clips = {clip.id: repr(clip) + files.get(clip.path, "") for clip in dataset.clips}
    captions = {one.id: repr(one) for one in dataset.captions}
    return Manifest(
        dataset=dataset.name,
        split=dataset.split,
        number=number + 1,
        clips=dataset.clips,
        captions=dataset.captions,
        missing=dataset.missing,
        twins=dataset.twins,
        parts=_parts(clips, keep, before.parts if before else (), shard_clips, number),
        caption_parts=_parts(
            captions, keep_text, before.caption_parts if before else (), 16 * shard_clips, number
        ),
        files=files,
    )


def _parts(
    now: dict[str, str], keep: set[str], before: Sequence[Part], size: int, number: int
) -> tuple[Part, ...]:
    kept = [Part(part.name, tuple(i for i in part.ids if i in keep)) for part in before]
    kept = [part for part in kept if part.ids]
    held = {name for part in kept for name in part.ids}
    todo = [name for name in now if name not in held]
    fresh = []
    for first in range(0, len(todo), size):
        ids = todo[first : first + size]
        name = part_name(number, first // size, [str(number), *(now[name] for name in ids)])
        fresh.append(Part(name, tuple(ids)))
    return (*kept, *fresh)


def part_name(number: int, place: int, inputs: Iterable[str]) -> str:
    """A shard's file name: which plan, its place there, and a digest of what goes into it."""
    return f"part-{number:03d}{place:05d}-{_digest(inputs)[:16]}.h5"


def _digest(texts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode("utf-8", "surrogateescape") + b"\0")
    return found.hexdigest()


def same_data(manifest: Manifest, dataset: Dataset) -> bool:
    """Whether the manifest was made for just this data."""
    return (manifest.clips, manifest.captions, manifest.missing, manifest.twins) == (
        dataset.clips,
        dataset.captions,
        dataset.missing,
        dataset.twins,
    )


def safe_name(split: str) -> str:
    """The split's name as a folder name: what is not plain is spelled as hex."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda found: f"%{ord(found.group()):x}", split) or "%"


def save_manifest(cache: Path, manifest: Manifest) -> None:
    """Write a manifest; of several processes that plan at once, the first one's holds.

    Raises:
        C4CError: another run planned something else meanwhile.
    """
    content = _pack(manifest)
    content["sha256"] = _seal(content)
    path = cache / "manifests" / f"{safe_name(manifest.split)}.{manifest.number:04d}.json"
    write_once(path, json_bytes(content), cache / "tmp")
    if read_json(path) != json.loads(json.dumps(content)):
        raise C4CError(
            f"{cache}: another run planned '{manifest.split}' at the same time; "
            "run the same command again."
        )


def _seal(content: dict[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return _digest([json.dumps(rest)])


def manifest_damage(cache: Path) -> list[str]:
    """Manifests whose content was changed since they were written, a line each."""
    found = []
    for path in _manifest_paths(cache):
        content = _read(path, cache)
        if "sha256" in content and content["sha256"] != _seal(content):
            found.append(f"{path}: differs from its checksum; put back a copy, or extract anew")
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
            found[path] = _unpack(_read(path, cache), path)
        except C4CError:
            if os.path.lexists(path):
                raise
            return _read_all(cache)
    return found


def _manifest_paths(cache: Path) -> list[Path]:
    refuse_links(cache / "manifests", cache)
    folder = cache / "manifests"
    return [folder / entry.name for entry in list_folder(folder) if entry.name.endswith(".json")]


def _read(path: Path, cache: Path) -> Any:
    is_there(path, cache)  # a regular file: no link, no pipe
    return read_json(path)


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
        "schema": 1,
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
    }


def _unpack(content: Any, path: Path) -> Manifest:
    try:
        if content["schema"] != 1:
            raise C4CError(f"{path} has schema {content['schema']}, this c4c reads 1; upgrade c4c?")
        return Manifest(
            dataset=str(content["dataset"]),
            split=str(content["split"]),
            number=int(content["number"]),
            clips=tuple(Clip(*row) for row in content["clips"]),
            captions=tuple(Caption(*row) for row in content["captions"]),
            missing=tuple(content["missing"]),
            twins=dict(content["twins"]),
            parts=tuple(_part(row, path) for row in content["parts"]),
            caption_parts=tuple(_part(row, path) for row in content["caption_parts"]),
            files=dict(content.get("files", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise C4CError(f"{path} is not a manifest of c4c ({error!r}).") from None


def _part(row: Any, path: Path) -> Part:
    name, ids = row
    if not re.fullmatch(r"part-[0-9]+-[0-9a-f]+\.h5", name):
        raise C4CError(f"{path} names a shard '{name}', which no c4c wrote; do not trust it.")
    return Part(name, tuple(ids))
