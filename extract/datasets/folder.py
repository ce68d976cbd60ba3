"""``folder``: any folder of videos, with or without a captions file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
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

    Captions annotate: a split is a value of the file's ``split`` column and holds the clips that
    its rows name (a video may hold several, by ``start`` and ``end``); ``all`` takes every row,
    and every other video, whole. Videos are named by file name, by stem, or by path below the
    root.

    Raises:
        C4CError: no folder, no video, or a captions file with a wrong line.
    """
    videos = Videos(source)
    if source.captions is None and split != "all":
        raise C4CError(f"folder has split 'all' only; '{split}' needs --captions FILE.")
    if source.captions is None:
        return _with_others(Dataset("folder", split, ()), source, videos)
    rows = list(read_rows(source.captions, source.video_root))
    found = load_rows(source, split, rows, videos, str(source.captions))
    if split == "all" and not source.only_captioned:
        return _with_others(found, source, videos)
    return found


def load_uncaptioned(source: DatasetSource) -> Dataset:
    """Split ``all`` without the videos of which a row of the captions file names the whole.

    Raises:
        C4CError: as ``load`` does.
    """
    found = load(source, "all")
    captioned = {caption.clip_id for caption in found.captions}
    clips = tuple(clip for clip in found.clips if clip.id not in captioned)
    return Dataset("folder", "all", clips, notes=found.notes)


def _with_others(found: Dataset, source: DatasetSource, videos: Videos) -> Dataset:
    """A split and, whole, the videos that no clip of it is the whole of."""
    if not (videos.paths or found.clips or found.missing):
        passed_over = "".join(f"; {note}" for note in videos.notes())
        raise C4CError(
            f"There are no videos below {source.video_root} (from {source.looked}){passed_over}."
        )
    whole = {clip.path for clip in found.clips if clip.end is None and not clip.start}
    taken = {clip.id for clip in found.clips}
    clips = [
        c for c in _whole_videos(videos.paths, source.video_root, taken) if c.path not in whole
    ]
    notes = _by_path_notes(clips) + alike_notes(clip.id for clip in clips)
    if source.captions is None:
        notes += videos.notes()
    both = tuple(sorted((*found.clips, *clips), key=lambda clip: clip.id))
    return replace(found, clips=both, notes=(*found.notes, *notes))


def _by_path_notes(clips: Sequence[Clip]) -> list[str]:
    """A note when videos share a stem, so that their ids are not what one might expect."""
    by_path = [clip for clip in clips if clip.id != printable(Path(clip.path).stem)]
    if not by_path:
        return []
    return [
        f"{len(by_path)} videos have a name that another has too; their ids are their paths "
        f"below the root (first '{by_path[0].id}')"
    ]


def _whole_videos(videos: list[Path], root: Path, names: set[str]) -> tuple[Clip, ...]:
    """A clip a video, named by stem; by path below the root where that could be another's.

    Args:
        videos: their paths.
        root: the folder that they lie in.
        names: ids that are others' already.
    """
    below = [path.relative_to(root).as_posix() for path in videos]
    taken = names | set(below)
    stems = Counter(path.stem for path in videos)
    named = [
        (path.stem if stems[path.stem] == 1 and path.stem not in taken else name, path)
        for name, path in zip(below, videos, strict=True)
    ]
    return tuple(Clip(printable(name), str(path)) for name, path in sorted(named))
