"""A dataset as it is now against what the cache has: which clip is which, whatever it is called.

A clip's features belong to the content of its file and to its span. Paths are attributes that
may change: a file that moved, was renamed, or is named by another spelling of its path goes on
under its id; a file that is another's copy gets that one's features. Clips of before stay, also
those whose file is gone: only ``c4c cache prune`` removes clips.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from c4c.cache.contents import Contents
from c4c.cache.plan import Manifest
from c4c.cache.stamps import file_stamps
from c4c.core.records import Caption, Clip, Dataset
from c4c.extract.datasets.shared import span_id
from c4c.extract.datasets.videos import printable

Source = tuple[str, ...]  # (split, id) of a clip


@dataclass(frozen=True, slots=True)
class Continued:
    """A dataset in the terms of the plan before it.

    Attributes:
        dataset: clips under their lasting ids, with those of before that stay.
        stamps: of the files, by path.
        replaced: ids of clips whose file is another one than when it was planned.
    """

    dataset: Dataset
    stamps: dict[str, str]
    replaced: frozenset[str] = frozenset()


def with_lasting_paths(dataset: Dataset) -> Dataset:
    """``dataset`` with paths that mean the same from every working directory."""
    clips = tuple(replace(clip, path=absolute(clip.path)) for clip in dataset.clips)
    return replace(dataset, clips=clips)


def absolute(path: str) -> str:
    """A path from the root on; ``..`` behind a symbolic link leads where the system goes."""
    return os.path.realpath(path) if ".." in Path(path).parts else os.path.abspath(path)


def continued(
    dataset: Dataset,
    before: Manifest | None,
    contents: Contents,
    extracted: frozenset[str],
    captions_given: bool,
) -> Continued:
    """Find every clip of ``dataset`` in the plan before.

    Args:
        dataset: as its loader gives it, with lasting paths.
        before: the plan that holds; ``None`` when there is none.
        contents: what is known of files.
        extracted: ids of the clips of ``before`` that have features, or have failed.
        captions_given: whether the dataset says what captions there are; else those of before
            stay.
    """
    stamps = file_stamps(clip.path for clip in dataset.clips)
    if before is None:
        return Continued(dataset, stamps)
    search = _Search(before, stamps, contents)
    match = search.by_file if dataset.name == "folder" else search.by_id
    pairs = match(dataset.clips)
    found = _joined(dataset, before, pairs, extracted, captions_given)
    lasting = {clip.id: clip.path for clip in found.clips}
    for clip in dataset.clips:  # what keeps another spelling of its path has its stamp under that
        old = pairs.get(clip.id)
        if old is not None and clip.path in stamps:
            stamps[lasting[old.id]] = stamps[clip.path]
    return Continued(found, stamps, frozenset(search.replaced))


def _span(clip: Clip) -> tuple[float, float | None]:
    return clip.start, clip.end


@dataclass
class _Search:
    """Looks for clips in a plan.

    Attributes:
        replaced: ids of those found under their name, whose content is another one.
    """

    before: Manifest
    stamps: Mapping[str, str]
    contents: Contents
    replaced: set[str] = field(default_factory=set)

    def by_id(self, clips: tuple[Clip, ...]) -> dict[str, Clip]:
        """Clips of a benchmark: a row of the annotations keeps its id."""
        known = {clip.id: clip for clip in self.before.clips}
        pairs = {clip.id: known[clip.id] for clip in clips if clip.id in known}
        for clip in clips:
            old = pairs.get(clip.id)
            if old is None:
                continue
            there = _same_file(clip.path, old.path)
            if not (self._as_planned if there else self._same_content)(clip, old):
                self.replaced.add(clip.id)
        return pairs

    def by_file(self, clips: tuple[Clip, ...]) -> dict[str, Clip]:
        """Clips of a folder: first by path, then by content, then by path with new content."""
        self._free = {clip.id: clip for clip in self.before.clips}
        places: dict[object, Clip] = {}
        for old in self.before.clips:
            places.setdefault((os.path.realpath(old.path), _span(old)), old)
        places |= {(old.path, _span(old)): old for old in self.before.clips}
        pairs: dict[str, Clip] = {}
        for clip in clips:
            there = self._at(clip, places)
            if there is not None and self._as_planned(clip, there):
                pairs[clip.id] = self._free.pop(there.id)
        pairs |= self._by_content([clip for clip in clips if clip.id not in pairs])
        for clip in clips:
            there = self._at(clip, places)
            if clip.id not in pairs and there is not None:
                pairs[clip.id] = self._free.pop(there.id)
                self.replaced.add(there.id)
        return pairs

    def _at(self, clip: Clip, places: Mapping[object, Clip]) -> Clip | None:
        """The clip of before in the same place, when nobody has it yet."""
        for path in (clip.path, os.path.realpath(clip.path)):
            old = places.get((path, _span(clip)))
            if old is not None and old.id in self._free:
                return old
        return None

    def _by_content(self, clips: list[Clip]) -> dict[str, Clip]:
        """Files that moved: what was planned is where it was no more, and here is the same."""
        waiting: dict[object, list[Clip]] = {}
        for old in self._free.values():
            if stamp := self.before.files.get(old.path):
                waiting.setdefault((stamp, _span(old)), []).append(old)
        pairs: dict[str, Clip] = {}
        for clip in clips:
            for old in waiting.get((self.stamps.get(clip.path), _span(clip)), ()):
                if old.id in self._free and not self._stays(old) and self._same_content(clip, old):
                    pairs[clip.id] = self._free.pop(old.id)
                    break
        return pairs

    def _stays(self, old: Clip) -> bool:
        """Whether the file of a clip is still where it was planned."""
        return file_stamps([old.path]).get(old.path) == self.before.files.get(old.path)

    def _as_planned(self, clip: Clip, old: Clip) -> bool:
        """Whether nothing says that a file is another one; one that is gone for now is not."""
        planned, now = self.before.files.get(old.path), self.stamps.get(clip.path)
        return not self.before.files or now is None or now == planned

    def _same_content(self, clip: Clip, old: Clip) -> bool:
        stamp = self.stamps.get(clip.path, "")
        same_stamp = stamp == self.before.files.get(old.path)
        return same_stamp and self.contents.same(old.path, clip.path, stamp)


def _same_file(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _joined(
    dataset: Dataset,
    before: Manifest,
    pairs: Mapping[str, Clip],
    extracted: frozenset[str],
    captions_given: bool,
) -> Dataset:
    """The dataset under lasting ids, and the clips of before that stay."""
    found = {old.id for old in pairs.values()}
    stay = [clip for clip in before.clips if clip.id not in found]
    if dataset.name == "folder":
        stay = [c for c in stay if c.id in extracted or os.path.lexists(c.path)]
    else:  # annotations that name a clip no more have done away with it
        stay = [c for c in stay if c.id in extracted and c.id in set(dataset.missing)]
    names = _names(dataset, before, pairs)
    clips = [_renamed(clip, names[clip.id], pairs.get(clip.id)) for clip in dataset.clips]
    staying = {clip.id for clip in stay}
    captions = [_of_clip(one, names[one.clip_id]) for one in dataset.captions]
    if dataset.name == "folder":
        kept = staying if captions_given else staying | found
        captions += [one for one in before.captions if one.clip_id in kept]
    else:
        captions += [one for one in dataset.unseen if one.clip_id in staying]
    return replace(
        dataset,
        clips=tuple(sorted((*clips, *stay), key=lambda clip: clip.id)),
        captions=tuple(captions),
        missing=tuple(name for name in dataset.missing if name not in staying),
        unseen=tuple(one for one in dataset.unseen if one.clip_id not in staying),
    )


def _renamed(clip: Clip, name: str, old: Clip | None) -> Clip:
    """The clip under its lasting id; its path of before stays while it leads there."""
    if old is not None and os.path.isabs(old.path) and _same_file(clip.path, old.path):
        return Clip(name, old.path, clip.start, clip.end)
    return replace(clip, id=name)


def _of_clip(caption: Caption, name: str) -> Caption:
    """The caption under the lasting id of its clip."""
    own = caption.id.removeprefix(caption.clip_id)
    return replace(caption, id=f"{name}{own}", clip_id=name)


def _names(dataset: Dataset, before: Manifest, pairs: Mapping[str, Clip]) -> dict[str, str]:
    """The lasting id of each clip: an id is never given to another clip."""
    names = {new: old.id for new, old in pairs.items()}
    taken = {clip.id for clip in before.clips} | {clip.id for clip in dataset.clips} - set(pairs)
    own = {clip.id for clip in before.clips}
    for clip in dataset.clips:
        if clip.id in names:
            continue
        if clip.id in own:
            names[clip.id] = next(name for name in _others(clip) if name not in taken)
            taken.add(names[clip.id])
        else:
            names[clip.id] = clip.id
    return names


def _others(clip: Clip) -> Iterator[str]:
    """Ids for a clip whose own is taken: by its folders, as many as it needs, then by number."""
    parts = Path(clip.path).parts
    for count in range(2, len(parts)):
        yield printable("/".join(parts[-count:])) + _stretch(clip)
    yield from (f"{clip.id} ({number})" for number in range(2, 1 << 30))


def _stretch(clip: Clip) -> str:
    return span_id("", clip.start, clip.end) if clip.start or clip.end is not None else ""


def copies_of(
    found: Continued,
    anew: frozenset[str],
    manifests: Mapping[str, Manifest],
    contents: Contents,
) -> dict[str, Source]:
    """Clips that need no decoding: the same stretch of a file with the same content is planned.

    Args:
        found: the split.
        anew: ids of its clips that have no features.
        manifests: the plans of all splits, this one's before.
        contents: what is known of files.

    Returns:
        Id to (split, id) of the clip whose features it is to get.
    """
    split = found.dataset.split
    known: dict[object, list[tuple[Source, str]]] = {}

    def add(source: Source, clip: Clip, stamp: str | None) -> None:
        if stamp:
            known.setdefault((stamp, _span(clip)), []).append((source, clip.path))

    for name, manifest in manifests.items():
        for clip in manifest.clips if name != split else ():
            source = manifest.copies.get(clip.id, (name, clip.id))
            if source[0] != split:  # of two splits that copy each other neither would begin
                add(source, clip, manifest.files.get(clip.path))
    fresh = [clip for clip in found.dataset.clips if clip.id in anew]
    for clip in found.dataset.clips:
        if clip.id not in anew:
            add((split, clip.id), clip, found.stamps.get(clip.path))
    copies: dict[str, Source] = {}
    for clip in fresh:
        stamp = found.stamps.get(clip.path, "")
        for source, path in known.get((stamp, _span(clip)), ()) if stamp else ():
            if _same_file(path, clip.path) or contents.same(path, clip.path, stamp):
                copies[clip.id] = source
                break
        else:
            add((split, clip.id), clip, stamp)
    return copies
