"""``folder``: any folder of videos, with or without a captions file."""

from __future__ import annotations

from pathlib import Path

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Clip, Dataset
from c4c.extract.datasets.rows import load_rows, read_rows, splits_of
from c4c.extract.datasets.shared import Counts, alike_notes
from c4c.extract.datasets.videos import Videos, printable

SPLITS = ("all",)
EXPECTED: dict[str, Counts] = {}


def splits(source: DatasetSource) -> tuple[str, ...]:
    """The splits that the captions file names; ``all`` without one."""
    if source.captions is None:
        return SPLITS
    return splits_of(list(read_rows(source.captions, source.video_root)))


def load(source: DatasetSource, split: str) -> Dataset:
    """The videos below the root, and the captions of a captions file.

    Without a captions file the only split is ``all``. With one, the clips are those that it
    names (a video may hold several, by ``start`` and ``end``), and a split is a value of its
    ``split`` column; ``all`` takes every row. Videos are named by file name, by stem, or by
    path below the root.

    Raises:
        C4CError: no folder, no video, or a captions file with a wrong line.
    """
    videos = Videos(source)
    if source.captions is not None:
        rows = list(read_rows(source.captions, source.video_root))
        return load_rows(source, split, rows, videos, str(source.captions))
    if split != "all":
        raise C4CError(f"folder has split 'all' only; '{split}' needs --captions FILE.")
    if not videos.paths:
        passed_over = "".join(f"; {note}" for note in videos.notes())
        raise C4CError(
            f"There are no videos below {source.video_root} (from {source.looked}){passed_over}."
        )
    clips = _whole_videos(videos.paths, source.video_root)
    notes = _by_path_notes(clips) + alike_notes(clip.id for clip in clips) + videos.notes()
    return Dataset("folder", split, clips, notes=tuple(notes))


def _by_path_notes(clips: tuple[Clip, ...]) -> list[str]:
    """A note when videos share a stem, so that their ids are not what one might expect."""
    by_path = [clip for clip in clips if clip.id != printable(Path(clip.path).stem)]
    if not by_path:
        return []
    return [
        f"{len(by_path)} videos have a name that another has too; their ids are their paths "
        f"below the root (first '{by_path[0].id}')"
    ]


def _whole_videos(videos: list[Path], root: Path) -> tuple[Clip, ...]:
    """A clip a video, named by stem; by path below the root where that could be another's."""
    below = [path.relative_to(root).as_posix() for path in videos]
    taken = set(below)
    stems: dict[str, int] = {}
    for path in videos:
        stems[path.stem] = stems.get(path.stem, 0) + 1
    named = [
        (path.stem if stems[path.stem] == 1 and path.stem not in taken else name, path)
        for name, path in zip(below, videos, strict=True)
    ]
    return tuple(Clip(printable(name), str(path)) for name, path in sorted(named))
