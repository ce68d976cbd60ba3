"""What loaders share: expected counts, finding annotations, ids, gathering clips and captions."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from c4c.core.config import DatasetSource
from c4c.core.editions import edition_notes
from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, Dataset
from c4c.extract.datasets.tables import clean, read_bytes
from c4c.extract.datasets.videos import Videos, files_below, nfc

_SPAN = re.compile(r"@[0-9.]+-[0-9.]*$")


@dataclass(frozen=True, slots=True)
class Counts:
    """What a split holds when it is complete; ``None`` where nobody published a number."""

    clips: int | None
    captions: int | None


def find_file(source: DatasetSource, names: tuple[str, ...], hint: str) -> Path:
    """An annotation file: in the root, or anywhere below it.

    Args:
        source: where the dataset lies.
        names: its name, then other names it goes by; the first that is there is taken.
        hint: how to get it, for the message.

    Raises:
        C4CError: it is not there (the message says where it was looked for), or it is there
            several times with different content.
    """
    found = look_for(source, names)
    if found is None:
        other = f" (or {', '.join(names[1:])})" if names[1:] else ""
        raise C4CError(
            f"{source.name}: {names[0]}{other} is not in {source.root} (from {source.looked}), "
            f"nor below it. {hint} Or pass --root and --videos."
        )
    return found


def look_for(source: DatasetSource, names: tuple[str, ...]) -> Path | None:
    """``find_file`` without the message: none when no file has any of the names.

    Raises:
        C4CError: there are several with different content.
    """
    for name in names:
        if os.path.isfile(source.root / name):
            return source.root / name
        found = [p for p in files_below(source.root) if fnmatch.fnmatchcase(p.name, name)]
        found = sorted(path for path in found if os.path.isfile(path))
        if found:
            if any(read_bytes(path) != read_bytes(found[0]) for path in found[1:]):
                raise C4CError(
                    f"{source.name}: there are different files called {name}, such as {found[0]} "
                    f"and {found[1]}; pass the folder of the right one as --root, and --videos."
                )
            return found[0]
    return None


def check_id(name: str, where: str) -> str:
    """``name`` when it can stand as an id.

    Ids are looked up among the files that were found, never joined to a path; what is refused
    here could only be a mistake, or an attempt.

    Raises:
        C4CError: empty, absolute, with ``.`` or ``..`` as a part, control characters or half
            characters.
    """
    parts = re.split(r"[/\\]", name)
    if not parts[0] or {".", ".."} & set(parts) or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name):
        raise C4CError(
            f"{where}: {name!r} cannot be the id of a clip or a path below the root; correct it."
        )
    return name


def unique_ids(names: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """(Ids in order, each once; a note when some stand twice) of (where, id) pairs.

    Raises:
        C4CError: an id that cannot be one.
    """
    found: dict[str, None] = {}
    twice: dict[str, None] = {}
    for where, name in names:
        (twice if check_id(name, where) in found else found)[name] = None
    notes = [f"{len(twice)} ids stand twice in the list ({_first(twice)})"] if twice else []
    return list(found), notes


def _first(names: Iterable[str]) -> str:
    return f"first '{next(iter(names))}'"


def span_id(video: str, start: float, end: float | None) -> str:
    """The id of a stretch of a video: its name, and where it begins and ends in seconds."""
    return f"{video}@{_plain(start)}-{'' if end is None else _plain(end)}"


def _plain(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def video_of(clip_id: str) -> str:
    """The video that a clip's id names: the id less its stretch."""
    return nfc(_SPAN.sub("", clip_id))


class Collector:
    """Gathers the clips and captions of a split, numbering the captions of each clip.

    Args:
        source: the dataset.
        split: the split.
        videos: where its videos are found; what it notices becomes a note of the dataset.
        notes: what the loader noticed before.
    """

    def __init__(
        self, source: DatasetSource, split: str, videos: Videos, notes: Iterable[str] = ()
    ) -> None:
        self.name, self.split, self.videos = source.name, split, videos
        self.notes = list(notes)
        self._clips: dict[str, Clip] = {}
        self._captions: list[Caption] = []
        self._unseen: list[Caption] = []
        self._missing: dict[str, None] = {}
        self._numbers: dict[str, int] = {}
        self._empty: list[str] = []

    def add(
        self,
        name: str,
        text: str,
        where: str,
        path: Path | None,
        start: float = 0.0,
        end: float | None = None,
    ) -> None:
        """Add a caption of clip ``name``; an empty one is left out and noted.

        Args:
            name: the clip's id.
            text: the caption.
            where: the place in the annotations, for messages.
            path: the clip's video, or ``None`` when it is missing.
            start: seconds.
            end: seconds; ``None`` is the end of the video.

        Raises:
            C4CError: an impossible stretch, or another stretch or video under the same id.
        """
        text = clean(text, where)
        if not text:
            self._empty.append(where)
            return
        try:
            clip = Clip(name, str(path or ""), start, end)
        except C4CError as error:
            raise C4CError(f"{where}: {error}") from None
        number = self._numbers[name] = self._numbers.get(name, -1) + 1
        caption = Caption(f"{name}#{number}", name, text)
        if path is None:
            self._missing[name] = None
            self._unseen.append(caption)
            return
        if self._clips.setdefault(name, clip) != clip:
            raise C4CError(f"{where}: clip '{name}' stands earlier with another span or video.")
        self._captions.append(caption)

    def lacking(self, ids: Iterable[str], expected: int | None) -> None:
        """Note which of the listed ``ids`` got no caption, unless as many did as published."""
        without = [name for name in ids if name not in self._numbers]
        if without and len(self._numbers) != expected:
            self.notes.append(f"{len(without)} listed clips have no caption ({_first(without)})")

    def dataset(self, expected: Counts | None = None) -> Dataset:
        """What was gathered, clips sorted by id, with notes on all that is not as published.

        Raises:
            C4CError: nothing was gathered.
        """
        if not self._numbers:
            raise C4CError(f"{self.name}: split '{self.split}' has no clip with a caption.")
        return Dataset(
            self.name,
            self.split,
            tuple(self._clips[key] for key in sorted(self._clips)),
            tuple(self._captions),
            tuple(sorted(self._missing)),
            notes=tuple(self.notes + self._counted(expected) + self._noticed()),
            unseen=tuple(self._unseen),
        )

    def _counted(self, expected: Counts | None) -> list[str]:
        if expected is None:
            return []
        captions = sum(number + 1 for number in self._numbers.values())
        pairs = (
            ("clips", len(self._numbers), expected.clips),
            ("captions", captions, expected.captions),
        )
        return [
            f"{found} {what}, the published split has {number}"
            for what, found, number in pairs
            if number is not None and found != number
        ]

    def _noticed(self) -> list[str]:
        notes = []
        if self._missing:
            notes.append(f"{len(self._missing)} clips have no video ({_first(self._missing)})")
        if self._empty:
            notes.append(
                f"{len(self._empty)} empty captions are left out (first: {self._empty[0]})"
            )
        notes += self.videos.notes() + alike_notes(self._numbers)
        return notes + (edition_notes(self._clips) or edition_notes(self._numbers))


def alike_notes(names: Iterable[str]) -> list[str]:
    """A note when ids differ in case or Unicode form alone: some file systems mix them up."""
    seen: dict[str, str] = {}
    alike: list[tuple[str, str]] = []
    for name in names:
        other = seen.setdefault(nfc(nfc(name).casefold()), name)
        if other != name:
            alike.append((other, name))
    if not alike:
        return []
    return [
        f"{len(alike)} ids differ from another in case or Unicode form only "
        f"({alike[0][0]!a} and {alike[0][1]!a})"
    ]


def is_stretch(start: object, end: object) -> bool:
    """Whether two values are seconds of a stretch: numbers, 0 or more, rising."""
    numbers = [t for t in (start, end) if isinstance(t, int | float) and not isinstance(t, bool)]
    return len(numbers) == 2 and 0 <= numbers[0] < numbers[1] < 1e9  # false with NaN
