"""The videos of a dataset: which files are there, and which of them an annotation names."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from c4c.config import DatasetSource
from c4c.errors import C4CError
from c4c.progress import say

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv", ".ts", ".mts"}
    | {".mpg", ".mpeg", ".gif", ".flv", ".wmv", ".3gp", ".ogv"}
)


def scan_videos(source: DatasetSource, bare: bool = False) -> list[Path]:
    """Every video file below the source's videos folder, by suffix, sorted.

    Hidden files are passed over.

    Args:
        source: where the dataset lies.
        bare: take files without any suffix too.

    Raises:
        C4CError: there is no such folder.
    """
    root = source.video_root
    if not os.path.isdir(root):
        looked = "--videos or c4c.toml" if source.videos else source.looked
        raise C4CError(
            f"There is no folder {root} (from {looked}) to look for videos in; "
            "pass --root or --videos FOLDER."
        )
    suffixes = VIDEO_SUFFIXES | {""} if bare else VIDEO_SUFFIXES
    return sorted(
        path
        for path in files_below(root)
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def files_below(root: Path) -> Iterator[Path]:
    """Every file below a folder; links to folders are followed, but never in a circle.

    Hidden folders are passed over, and so are unreadable ones, with a line on stderr.
    """
    seen = {os.path.realpath(root)}
    for folder, names, files in os.walk(root, followlinks=True, onerror=_unreadable):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in list(names):
            real = os.path.realpath(os.path.join(folder, name))
            if real in seen:
                names.remove(name)
            seen.add(real)
        yield from (Path(folder, name) for name in files)


def _unreadable(error: OSError) -> None:
    if isinstance(error, PermissionError):
        say(f"passed over {error.filename}: {error.strerror}")


def nfc(name: str) -> str:
    """The one spelling of a name: some file systems store accents apart from their letters."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def bare_stem(name: str) -> str:
    """A file name less every video suffix at its end (``a.mov.mp4``) and bare dots (``a.``)."""
    while True:
        stem, dot, suffix = name.rpartition(".")
        if not dot or not stem or (suffix and f".{suffix.lower()}" not in VIDEO_SUFFIXES):
            return name
        name = stem


def printable(name: str) -> str:
    """A file name as an id: control characters, stray bytes and backslashes are spelled out."""
    return "".join(c if c.isprintable() and c != "\\" else f"\\x{ord(c):02x}" for c in name)


class Videos:
    """The videos of a dataset, found by path below the root, by file name, or by stem.

    Names are looked up among the files that are there, never opened as paths, and compared in
    Unicode's NFC. Where several files fit, it takes the one in the published place (``layout``),
    else the one with the best suffix, else the first in order, and ``notes`` says so.

    Args:
        source: where the dataset lies.
        suffixes: suffixes in order of preference, when the benchmark has such an order.
        bare: files without suffix are videos too.
    """

    def __init__(
        self, source: DatasetSource, suffixes: tuple[str, ...] = (), bare: bool = False
    ) -> None:
        self.root, self._suffixes = source.video_root, suffixes
        self.paths = scan_videos(source, bare)
        self._tables: list[dict[str, list[Path]]] = [{}, {}, {}, {}]
        for path in self.paths:
            below = path.relative_to(self.root).as_posix()
            keys = (below, path.name, path.stem, bare_stem(path.name))
            for table, key in zip(self._tables, keys, strict=True):
                table.setdefault(nfc(key), []).append(path)
        self._known: dict[str, Path | None] = {}
        self._several: dict[str, tuple[int, Path]] = {}

    def find(self, name: str, layout: str = "") -> Path | None:
        """The video called ``name``, or none; ``layout`` is how its path ends where published."""
        if name not in self._known:
            key = nfc(name)
            fit = next((table[key] for table in self._tables if key in table), [])
            self._known[name] = self._choose(name, fit, layout) if fit else None
        return self._known[name]

    def _choose(self, name: str, fit: list[Path], layout: str) -> Path:
        fit = [p for p in fit if layout and p.as_posix().endswith(f"/{layout}")] or fit
        best = min(self._rank(path) for path in fit)
        fit = [path for path in fit if self._rank(path) == best]
        if len(fit) > 1:
            fit = [p for p in fit if name in (p.stem, p.name)] or fit  # the same bytes, not NFC
            real: dict[str, Path] = {}
            for path in fit:
                real.setdefault(os.path.realpath(path), path)
            fit = list(real.values())
        if len(fit) > 1:
            self._several[name] = len(fit), fit[0]
        return fit[0]

    def _rank(self, path: Path) -> int:
        """The place of a file's suffix in the order of preference."""
        suffix, order = path.suffix.lower(), self._suffixes
        return order.index(suffix) if suffix in order else len(order)

    def notes(self) -> list[str]:
        """Which of the names asked for stood for several files."""
        if not self._several:
            return []
        name, (count, path) = min(self._several.items())
        taken = printable(path.relative_to(self.root).as_posix())
        return [
            f"{len(self._several)} clips have several videos, the first is taken "
            f"('{name}' has {count}, taken: {taken})"
        ]
