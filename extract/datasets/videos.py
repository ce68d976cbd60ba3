"""The videos of a dataset: which files are there, and which of them an annotation names."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.progress import say

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".avi", ".divx", ".webm", ".mkv", ".ts", ".mts", ".m2ts"}
    | {".m2t", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".gif", ".flv", ".f4v", ".wmv"}
    | {".asf", ".3gp", ".3gpp", ".3g2", ".3gp2", ".ogv", ".ogm", ".rm", ".rmvb", ".dv", ".mxf"}
    | {".h264", ".264", ".hevc", ".265", ".y4m", ".nut", ".amv", ".mjpeg", ".mjpg"}
    | {".tod", ".trp", ".tp", ".mp4v", ".insv", ".360", ".lrv", ".wtv", ".dvr-ms"}
    | {".vro", ".evo", ".m2p", ".mpv", ".k3g", ".skm", ".xvid"}
)
# Folders that a network disk or a system keeps for itself: previews, and what was deleted.
SYSTEM_FOLDERS = frozenset(
    {"#recycle", "$recycle.bin", "@eadir", "@recycle", "@recently-snapshot", "#snapshot"}
    | {"recycler", "system volume information", "lost+found", "__macosx", "found.000"}
)
# What lies beside videos and is none: passed over without a word unless a list names it.
OTHER_SUFFIXES = frozenset(
    {".txt", ".md", ".rst", ".pdf", ".html", ".xml", ".json", ".jsonl", ".ndjson", ".csv", ".tsv"}
    | {".parquet", ".arrow", ".pkl", ".pickle", ".p", ".npy", ".npz", ".h5", ".hdf5", ".pt"}
    | {".pth", ".bin", ".safetensors", ".toml", ".yaml", ".yml", ".ini", ".cfg", ".log", ".lock"}
    | {".py", ".sh", ".ipynb", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"}
    | {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".svg", ".wav", ".mp3", ".m4a", ".aac", ".flac"}
    | {".ogg", ".opus", ".srt", ".vtt", ".ass", ".sub", ".part", ".ytdl", ".tmp", ".crdownload"}
    | {".md5", ".sha1", ".sha256", ".docx", ".xlsx", ".db", ".sqlite"}
)


def scan_files(source: DatasetSource) -> list[Path]:
    """Every file below the source's videos folder, sorted; hidden files are passed over.

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
    below = [path for path in files_below(root) if not path.name.startswith(".")]
    found = sorted(path for path in below if _wanted(path.relative_to(root), source))
    if len(found) < len(below):
        _say_once(f"{len(below) - len(found)} files are left out by --include and --exclude")
    return found


def _wanted(path: Path, source: DatasetSource) -> bool:
    """Whether ``--include`` and ``--exclude`` leave a file; a folder's pattern is of all in it."""
    places = [path.name, *(one.as_posix() for one in (path, *path.parents) if one != Path("."))]

    def fits(patterns: tuple[str, ...]) -> bool:
        return any(fnmatch(place, one.rstrip("/")) for place in places for one in patterns)

    return (not source.include or fits(source.include)) and not fits(source.exclude)


def files_below(root: Path) -> Iterator[Path]:
    """Every file below a folder; links to folders are followed, but never in a circle.

    Hidden folders are passed over, and so are those that a disk or system keeps for itself, and
    unreadable ones, both with a line on stderr.
    """
    seen = {os.path.realpath(root)}
    for folder, names, files in os.walk(root, followlinks=True, onerror=_unreadable):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in [one for one in names if one.lower() in SYSTEM_FOLDERS]:
            names.remove(name)
            _say_once(f"passed over {os.path.join(folder, name)}: kept by the system, no videos")
        for name in list(names):
            real = os.path.realpath(os.path.join(folder, name))
            if real in seen:
                names.remove(name)
            seen.add(real)
        yield from (Path(folder, name) for name in files)


def _unreadable(error: OSError) -> None:
    if isinstance(error, PermissionError):
        _say_once(f"passed over {error.filename}: {error.strerror}")


@cache
def _say_once(words: str) -> None:
    """A folder is walked several times in a run, a split or file of annotations each."""
    say(words)


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
    Unicode's NFC. A file that is named in full is the video, whatever its suffix; by its stem
    only one with the suffix of a video. Where several files fit, it takes the one in the
    published place (``layout``), else the one with the best suffix, else the first in order, and
    ``notes`` says so.

    Args:
        source: where the dataset lies.
        suffixes: suffixes in order of preference, when the benchmark has such an order.
        bare: files without suffix are videos too.

    Attributes:
        paths: every file with the suffix of a video, sorted.
    """

    def __init__(
        self, source: DatasetSource, suffixes: tuple[str, ...] = (), bare: bool = False
    ) -> None:
        self.root, self._suffixes = source.video_root, suffixes
        known = VIDEO_SUFFIXES | {""} if bare else VIDEO_SUFFIXES
        self.paths: list[Path] = []
        self._unknown: Counter[str] = Counter()
        self._others: list[Path] = []
        self._tables: list[dict[str, list[Path]]] = [{}, {}, {}, {}]
        for path in scan_files(source):
            suffix = path.suffix.lower()
            if suffix in known:
                self.paths.append(path)
                self._enter(path, path.stem, bare_stem(path.name))
            elif suffix in OTHER_SUFFIXES:
                self._others.append(path)
            else:
                self._unknown += Counter([suffix] if suffix else [])
                self._enter(path)
        self._known: dict[str, Path | None] = {}
        self._several: dict[str, tuple[int, Path]] = {}

    def _enter(self, path: Path, *stems: str) -> None:
        """Make a file known by its path below the root, its name, and these stems."""
        keys = (path.relative_to(self.root).as_posix(), path.name, *stems)
        for table, key in zip(self._tables, keys, strict=False):
            table.setdefault(nfc(key), []).append(path)

    def find(self, name: str, layout: str = "") -> Path | None:
        """The video called ``name``, or none; ``layout`` is how its path ends where published."""
        if name not in self._known:
            key = nfc(name)
            fit = self._fitting(key)
            if not fit and self._others:  # seldom a video, and there may be millions of them
                for path in self._others:
                    self._enter(path)
                self._others = []
                fit = self._fitting(key)
            self._known[name] = self._choose(name, fit, layout) if fit else None
        return self._known[name]

    def _fitting(self, key: str) -> list[Path]:
        return next((table[key] for table in self._tables if key in table), [])

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
        """Which names asked for stood for several files, and which files may be videos or not."""
        return self._several_notes() + self._unknown_notes()

    def _unknown_notes(self) -> list[str]:
        taken = {path for path in self._known.values() if path is not None}
        left = self._unknown - Counter(path.suffix.lower() for path in taken)
        if not left:
            return []
        told = (f"{n} {printable(suffix)}" for suffix, n in sorted(left.items()))
        return [
            f"{left.total()} files are passed over, their suffix is no video's ({', '.join(told)})"
        ]

    def _several_notes(self) -> list[str]:
        if not self._several:
            return []
        name, (count, path) = min(self._several.items())
        taken = printable(path.relative_to(self.root).as_posix())
        return [
            f"{len(self._several)} clips have several videos, the first is taken "
            f"('{name}' has {count}, taken: {taken})"
        ]
