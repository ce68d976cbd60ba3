"""What loaders share: expected counts, finding videos by name, reading tables with clear errors."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from c4c.errors import C4CError
from c4c.records import Caption, Clip, Dataset

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv", ".ts", ".mts"}
    | {".mpg", ".mpeg", ".gif", ".flv", ".wmv", ".3gp", ".ogv"}
)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a split holds when it is complete."""

    clips: int
    captions: int


def scan_videos(root: Path) -> list[Path]:
    """Every video file below ``root``, by suffix, sorted; hidden folders are passed over.

    Raises:
        C4CError: ``root`` is not a folder that can be read.
    """
    if not root.is_dir():
        raise C4CError(f"There is no folder {root} to look for videos in.")
    found: list[Path] = []
    seen = {os.path.realpath(root)}
    for folder, names, files in os.walk(root, followlinks=True):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in list(names):  # links to folders are followed, but never in a circle
            real = os.path.realpath(os.path.join(folder, name))
            if real in seen:
                names.remove(name)
            seen.add(real)
        found += [
            Path(folder, name)
            for name in files
            if Path(name).suffix.lower() in VIDEO_SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def by_stem(videos: list[Path]) -> dict[str, Path]:
    """Videos by file name less the last extension; the first in order wins."""
    found: dict[str, Path] = {}
    for path in videos:
        found.setdefault(path.stem, path)
    return found


def check_id(name: str, where: str) -> str:
    """``name`` when it can stand as an id.

    Ids are looked up among the files that were found, never joined to a path; what is refused
    here could only be a mistake, or an attempt.

    Raises:
        C4CError: empty, with control characters, absolute, or with ``..`` in it.
    """
    parts = name.split("/")
    if not name or re.search(r"[\x00-\x1f\x7f]", name) or parts[0] == "" or ".." in parts:
        raise C4CError(f"{where}: '{name!r}' cannot be the id of a clip; correct that line.")
    return name


def read_text(path: Path) -> str:
    """A text file as UTF-8, with or without a byte-order mark.

    Raises:
        C4CError: missing, unreadable, not UTF-8, or with NUL bytes.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise C4CError(f"{path} is not there.") from None
    except OSError as error:
        raise C4CError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise C4CError(f"{path} line {line} is not UTF-8; convert the file to UTF-8.") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise C4CError(f"{path} line {line} holds a NUL character; is the file damaged?")
    return text


class Collector:
    """Gathers the clips and captions of a split, numbering the captions of each clip."""

    def __init__(self) -> None:
        self.clips: dict[str, Clip] = {}
        self.captions: list[Caption] = []
        self.missing: dict[str, None] = {}
        self._numbers: dict[str, int] = {}

    def add(self, clip: Clip, text: str) -> bool:
        """Add a caption of ``clip``; false when that id stands for another stretch of video."""
        if self.clips.setdefault(clip.id, clip) != clip:
            return False
        number = self._numbers[clip.id] = self._numbers.get(clip.id, -1) + 1
        self.captions.append(Caption(f"{clip.id}#{number}", clip.id, text))
        return True

    def dataset(self, name: str, split: str, notes: tuple[str, ...] = ()) -> Dataset:
        """What was gathered, clips sorted by id."""
        return Dataset(
            name,
            split,
            tuple(self.clips[key] for key in sorted(self.clips)),
            tuple(self.captions),
            tuple(sorted(self.missing)),
            notes=notes,
        )
