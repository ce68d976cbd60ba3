"""Compares a dataset on disk with what its benchmark should hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.files import write_atomic
from c4c.core.records import Dataset
from c4c.core.terminal import visible
from c4c.extract.datasets import divisions, load_dataset, loader
from c4c.extract.datasets.shared import Counts, video_of

_HEAD = ("split", "expected", "annotated", "found", "missing", "captions", "expected", "repeated")


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, split by split.

    Attributes:
        name: the dataset's name.
        expected: what complete splits hold, where that is known.
        divisions: splits that belong together.
        datasets: the splits that could be read.
        unread: why the others could not, by split.
        needed: the splits that were asked for, or are the usual ones.
    """

    name: str
    expected: Mapping[str, Counts]
    divisions: tuple[tuple[str, ...], ...]
    datasets: tuple[Dataset, ...]
    unread: dict[str, str]
    needed: tuple[str, ...]

    def table(self) -> str:
        """Expected and found, a line a split, then what was noticed.

        Captions are those that the annotations name, whether their video is there or not yet.
        """
        rows = [_HEAD, *(self._row(one) for one in self.datasets)]
        rows += [(split, *("-" for _ in _HEAD[1:])) for split in self.unread]
        lines = [f"{row[0]:<12}" + "".join(f"{cell:>10}" for cell in row[1:]) for row in rows]
        lines += [f"{one.split}: {note}" for one in self.datasets for note in one.notes]
        for why in dict.fromkeys(self.unread.values()):
            names = ", ".join(split for split, reason in self.unread.items() if reason == why)
            lines.append(f"{names}: cannot be read: {why}")
        return "\n".join(map(visible, lines + self._leaks()))

    def _row(self, one: Dataset) -> tuple[str, ...]:
        counts = self.expected.get(one.split, Counts(None, None))
        texts = [caption.text for caption in (*one.captions, *one.unseen)]
        numbers = (
            counts.clips,
            len(one.clips) + len(one.missing),
            len(one.clips),
            len(one.missing),
            len(texts),
            counts.captions,
            len(texts) - len(set(texts)),
        )
        return one.split, *("-" if number is None else str(number) for number in numbers)

    def _leaks(self) -> list[str]:
        """Splits of one division that share clips (found or missing) or video files."""
        there = {one.split: one for one in self.datasets}
        pairs = dict.fromkeys(pair for way in self.divisions for pair in combinations(way, 2))
        lines = []
        for one, other in pairs:
            if one not in there or other not in there:
                continue
            shared = _shared(there[one], there[other])
            if shared:
                lines.append(
                    f"{one} and {other} share {len(shared)} clips (first '{shared[0]}'): "
                    "results on one leak from the other"
                )
        return lines

    def problem(self, strict: bool) -> str | None:
        """Why the check fails, in one line, or ``None``.

        A split that is needed and cannot be read is always a failure; with ``strict`` so is
        whatever is missing, counted otherwise, noted or leaking.
        """
        unread = [split for split in self.unread if split in self.needed]
        if unread:
            return f"{self.name}: {', '.join(unread)} cannot be read; the table says why."
        odd = [one for one in self.datasets if one.missing or one.notes]
        if strict and odd:
            missing = sum(len(one.missing) for one in odd)
            names = ", ".join(one.split for one in odd)
            return f"{self.name} is not as published ({names}; {missing} videos missing)."
        leaks = strict and self._leaks()
        return f"{self.name}: splits share clips, as the table says." if leaks else None


def _shared(one: Dataset, other: Dataset) -> list[str]:
    """Clips of ``one`` whose video, by name or by file, ``other`` has too."""
    names = {video_of(name) for name in _ids(other)}
    files = {os.path.realpath(clip.path) for clip in other.clips}
    same_file = {clip.id for clip in one.clips if os.path.realpath(clip.path) in files}
    return sorted(name for name in _ids(one) if name in same_file or video_of(name) in names)


def _ids(one: Dataset) -> list[str]:
    """Every annotated clip, whether its video was found or not."""
    return [*(clip.id for clip in one.clips), *one.missing]


def check_dataset(source: DatasetSource, splits: tuple[str, ...] = ()) -> Report:
    """Load every split asked for (by default all that there are), whatever is wrong with others.

    Raises:
        C4CError: there is no such dataset, or not one split can be read.
    """
    ways = divisions(source)
    wanted = splits or tuple(dict.fromkeys(split for way in ways for split in way))
    datasets: list[Dataset] = []
    unread: dict[str, str] = {}
    for split in wanted:
        try:
            datasets.append(load_dataset(source, split))
        except C4CError as error:
            unread[split] = str(error)
    if not datasets:
        raise C4CError(next(iter(unread.values())))
    expected = loader(source.name).EXPECTED
    return Report(source.name, expected, ways, tuple(datasets), unread, splits or ways[0])


def write_missing(report: Report, path: Path) -> None:
    """Ids of clips without a video, a line each: split, tab, id."""
    lines = [f"{one.split}\t{name}\n" for one in report.datasets for name in one.missing]
    write_atomic(path, "".join(lines).encode("utf-8", "surrogateescape"))
