"""Videos to features: ``c4c.extract_features`` and ``c4c.decode_clip``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.errors import C4CError
from c4c.core.progress import Listener, heard_by, say
from c4c.core.records import Clip, Frames
from c4c.core.settings import from_keywords
from c4c.extract.config import ExtractConfig
from c4c.extract.video.request import Request
from c4c.face.keywords import takes

if TYPE_CHECKING:
    from c4c.cache.open import Cache

Source = str | os.PathLike[str] | Iterable[Clip | str | os.PathLike[str]]


@takes(ExtractConfig, "dataset", "clips")
def extract_features(source: Source, *, progress: bool | Listener = True, **settings: Any) -> Cache:
    """Put CLIP features of every frame of a dataset into a cache; go on where a run stopped.

    Args:
        source: text that is a dataset's name is that dataset, where ``c4c.toml`` or ``$C4C_DATA``
            says that it lies. Other text, and any ``Path``, is a folder of videos (``"./msvd"`` is
            a folder even though ``msvd`` is a dataset). Or clips: ``c4c.Clip`` records, or paths
            of videos, which are called by their file names without the suffix.
        progress: ``False`` is silent; a function hears each ``Update`` (``c4c.core.progress``).
        settings: as ``c4c extract`` takes them, by the same names and with the same defaults
            (``ExtractConfig`` describes each).

    Returns:
        The cache, opened: ``c4c-cache/<dataset>``, ``c4c-cache/folder`` and ``c4c-cache/clips``
        unless ``cache`` names another folder. Clips that failed are in ``cache.clips().failed``.

    Raises:
        C4CError: data, weights or cache that cannot be used, or no clip that could be decoded.
        TypeError: a setting that does not exist.
    """
    from c4c.cache.open import Cache
    from c4c.extract.engines.run import run_with_engine

    where = _where(source)
    if "root" in settings and where.keys() != {"dataset"}:
        raise C4CError(f"root is for a dataset's name, such as 'msrvtt'; source is {source!r}.")
    config = from_keywords(ExtractConfig, {**settings, **where})
    with heard_by(progress):
        result = run_with_engine(config)
    if result.complete and not result.clips:
        reasons = "; ".join(f"{one.clip_id}: {one.message}" for one in result.failed[:3])
        raise C4CError(f"No clip of {config.dataset} could be extracted ({reasons}).")
    return Cache.open(result.cache)


def _where(source: Source) -> dict[str, Any]:
    """The settings that say what ``source`` is."""
    from c4c.extract.datasets import DATASETS

    if isinstance(source, str) and source in DATASETS:
        return {"dataset": source}
    if isinstance(source, str | os.PathLike):
        folder = Path(source)
        if folder.is_dir():
            return {"dataset": "folder", "root": folder}
        known = ", ".join(DATASETS)
        raise C4CError(f"'{source}' is neither a folder nor a dataset. Datasets: {known}.")
    return {"dataset": "clips", "clips": tuple(sorted(map(_clip, source), key=lambda one: one.id))}


def _clip(given: Clip | str | os.PathLike[str]) -> Clip:
    return given if isinstance(given, Clip) else Clip(Path(given).stem, os.fspath(given))


@takes(Request)
def decode_clip(clip: Clip | str | os.PathLike[str], **settings: Any) -> Frames:
    """Frames of one clip, decoded in this process.

    >>> frames = decode_clip(video, fps=2.0, max_frames=4)
    >>> frames.pixels.shape, frames.times.tolist()
    ((4, 64, 64, 3), [0.0, 0.5, 1.0, 2.0])

    Args:
        clip: a video file, or a ``c4c.Clip`` for a stretch of one.
        settings: ``fps``, ``max_frames``, ``sampling`` and ``decoder`` as ``c4c extract`` takes
            them; ``size`` scales and cuts frames for a backbone of that input size.

    Returns:
        uint8 pixels [n, H, W, 3], RGB, and times [n] in seconds from the clip's start. Frames that
        may suffer from damage are left out, and a line on stderr says so.

    Raises:
        C4CError: there is no frame that can be trusted; says why.
    """
    from c4c.extract.video import decode

    found = decode.decode_clip(_clip(clip), from_keywords(Request, settings))
    if not len(found.frames):
        raise C4CError(f"{_clip(clip).path}: {found.status}: {found.message}.")
    if found.status != "ok":
        say(f"{_clip(clip).path}: {found.status}: {found.message}")
    return found.frames
