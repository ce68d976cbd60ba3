"""What a cache is expected to hold: one write-once manifest a split and state of the data.

A manifest names every shard and the rows to take from it. So a missing shard is an error and
not a smaller gallery, late workers share one plan, and when clips are added (or failures are
tried again) only those get new shards.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, Dataset
from c4c.core.schema import AsList, Range


@dataclass(frozen=True, slots=True)
class Part:
    """One shard of the plan: its file name and the ids of the rows to take from it."""

    name: str
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"part-[0-9]+-[0-9a-f]+\.h5", self.name):
            raise C4CError(f"it names a shard '{self.name}', which no c4c wrote; do not trust it.")


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
        hashes: path of a video to the SHA-256 of all of its bytes, where somebody has read it.
        copies: id of a clip to (split, id) of another one that is the same stretch of a file with
            the same content: its features are copied when that is extracted.
    """

    dataset: str
    split: str
    number: Annotated[int, Range(1)]
    clips: tuple[Annotated[Clip, AsList], ...]
    captions: tuple[Annotated[Caption, AsList], ...]
    missing: tuple[str, ...]
    twins: dict[str, str]
    parts: tuple[Annotated[Part, AsList], ...]
    caption_parts: tuple[Annotated[Part, AsList], ...]
    files: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    copies: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, ids, parts in (
            ("clip", [clip.id for clip in self.clips], self.parts),
            ("caption", [caption.id for caption in self.captions], self.caption_parts),
        ):
            planned = [name for part in parts for name in part.ids]
            if not len(ids) == len(planned) == len(set(ids)) or set(ids) != set(planned):
                raise C4CError(f"its parts do not hold each {what} exactly once.")
        if any(len(source) != 2 for source in self.copies.values()):
            raise C4CError("it names a copy of something else than a clip of a split.")

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
    hashes: dict[str, str] | None = None,
    copies: dict[str, tuple[str, ...]] | None = None,
    parts: Sequence[Part] | None = None,
) -> Manifest:
    """The manifest for ``dataset``, reusing the shards of ``before`` for what did not change.

    Args:
        dataset: the split as it is now.
        before: the manifest that holds so far.
        shard_clips: clips a shard; captions go 16 times as many.
        again: ids whose clips are to be extracted once more (failures, replaced files).
        files: stamps of the video files as they are now.
        hashes: digests of their content, where known.
        copies: clips that another one's features are to be copied for.
        parts: the shards of clips to reuse; those of ``before`` when not given.
    """
    paths = {clip.path for clip in dataset.clips}
    files = {**(before.files if before else {}), **(files or {})}
    files = {path: stamp for path, stamp in files.items() if path in paths}
    number = before.number if before else 0
    keep = same_stretches(before, dataset) - again
    old_captions = {one.id: one for one in before.captions} if before else {}
    keep_text = {one.id for one in dataset.captions if old_captions.get(one.id) == one}
    clips = {clip.id: repr(clip) + files.get(clip.path, "") for clip in dataset.clips}
    captions = {one.id: repr(one) for one in dataset.captions}
    if parts is None:
        parts = before.parts if before else ()
    kept = _kept(parts, keep)
    held = {name for part in kept for name in part.ids}
    copies = {name: of for name, of in (copies or {}).items() if name in clips and name not in held}
    fresh = [name for name in clips if name not in held]
    groups = [[i for i in fresh if i not in copies], [i for i in fresh if i in copies]]
    old_texts = _kept(before.caption_parts if before else (), keep_text)
    held_texts = {name for part in old_texts for name in part.ids}
    texts = [[name for name in captions if name not in held_texts]]
    return Manifest(
        dataset=dataset.name,
        split=dataset.split,
        number=number + 1,
        clips=dataset.clips,
        captions=dataset.captions,
        missing=dataset.missing,
        twins=dataset.twins,
        parts=(*kept, *_fresh(groups, clips, shard_clips, number)),
        caption_parts=(*old_texts, *_fresh(texts, captions, 16 * shard_clips, number)),
        files=files,
        hashes={path: one for path, one in (hashes or {}).items() if path in paths},
        copies=copies,
    )


def same_stretches(before: Manifest | None, dataset: Dataset) -> frozenset[str]:
    """Ids of clips that are the same stretch of their video as before, wherever that lies."""
    spans = {clip.id: (clip.start, clip.end) for clip in before.clips} if before else {}
    return frozenset(c.id for c in dataset.clips if spans.get(c.id) == (c.start, c.end))


def _kept(parts: Sequence[Part], keep: frozenset[str] | set[str]) -> list[Part]:
    left = (Part(part.name, tuple(i for i in part.ids if i in keep)) for part in parts)
    return [part for part in left if part.ids]


def _fresh(
    groups: Iterable[Sequence[str]], now: dict[str, str], size: int, number: int
) -> Iterator[Part]:
    """New parts of at most ``size`` ids, none of two groups."""
    pieces = [ids[first : first + size] for ids in groups for first in range(0, len(ids), size)]
    for place, ids in enumerate(pieces):
        yield Part(part_name(number, place, [str(number), *(now[i] for i in ids)]), tuple(ids))


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
