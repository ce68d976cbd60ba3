"""Which clips may answer: filters on path, folder, date, duration and captions."""

from __future__ import annotations

import fnmatch
import math
import os
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError
from c4c.core.settings import check, setting

if TYPE_CHECKING:  # settings are options of a command, whose help must not wait for numpy
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from c4c.cache.open import Cache
    from c4c.retrieval.gallery import Gallery
    from c4c.retrieval.gallery_piece import Named, Piece

    Mask = npt.NDArray[np.bool_]

_YEAR = 366 * 86400.0  # no clip lasts longer


@dataclass(frozen=True)
class Filter:
    """What a clip must be to answer; what is ``None`` is not asked.

    Attributes:
        path: pattern that the whole path or the file's name matches (``*.mp4``), in either case.
        folder: the video lies in it or below.
        after: the video file was changed on this day or later, ``2024-05-31``.
        before: on this day or earlier.
        longer: seconds that the clip lasts at least.
        shorter: seconds that it lasts at most.
        caption: words that one of its captions contains, in either case.
    """

    path: str | None = setting(
        "Answers", "Only videos whose path or name matches, such as '*beach*'.", None
    )
    folder: str | None = setting("Answers", "Only videos in this folder or below.", None)
    after: str | None = setting(
        "Answers", "Only files changed on this day or later, 2024-05-31.", None
    )
    before: str | None = setting("Answers", "Only files changed on this day or earlier.", None)
    longer: float | None = setting(
        "Answers", "Only clips of so many seconds or more.", None, within=(0, _YEAR)
    )
    shorter: float | None = setting(
        "Answers", "Only clips of so many seconds or fewer.", None, within=(0, _YEAR)
    )
    caption: str | None = setting(
        "Answers", "Only clips with a caption that contains these words.", None
    )

    def __post_init__(self) -> None:
        _day("after", self.after)
        _day("before", self.before)
        check(self)

    def __bool__(self) -> bool:
        return any(value is not None for value in vars(self).values())

    @cached_property
    def _checks(self) -> list[Callable[[Named], bool]]:
        """Those on what a gallery knows of a clip by name, cheapest first."""
        checks: list[Callable[[Named], bool]] = []
        if self.folder is not None:
            folder = os.path.join(os.path.abspath(self.folder), "")
            checks.append(lambda one: os.path.abspath(one.path).startswith(folder))
        if self.path is not None:
            pattern = self.path.lower()
            checks.append(
                lambda one: any(
                    fnmatch.fnmatchcase(text.lower(), pattern)
                    for text in (one.path, os.path.basename(one.path))
                )
            )
        if self.after is not None or self.before is not None:
            first, last = _day("after", self.after), _day("before", self.before) + 86400
            checks.append(lambda one: first <= _changed(one.path) < last)
        return checks

    def masks(self, gallery: Gallery, cache: Cache, split: str | None) -> list[Mask | None]:
        """Of each piece the clips that may answer, bool [N]; ``None``: all of them.

        Args:
            gallery: what is searched.
            cache: its cache, for captions.
            split: the only split that may answer.
        """
        import numpy as np

        captioned = None if self.caption is None else _captioned(cache, self.caption)
        masks: list[Mask | None] = []
        for piece, own in zip(gallery.pieces, gallery.splits, strict=True):
            if split is not None and own != split:
                masks.append(np.zeros(len(piece), np.bool_))
            elif self:
                masks.append(self._mask(piece, None if captioned is None else captioned[own]))
            else:
                masks.append(None)
        return masks

    def _mask(self, piece: Piece, captioned: set[str] | None) -> Mask:
        import numpy as np

        mask = np.ones(len(piece), np.bool_)
        for row in range(len(piece)):
            named = piece.name(row)
            mask[row] = (
                (captioned is None or named.id in captioned)
                and self._lasts(piece, row, named)
                and all(check(named) for check in self._checks)
            )
        return mask

    def _lasts(self, piece: Piece, row: int, named: Named) -> bool:
        if self.longer is None and self.shorter is None:
            return True
        if named.end is not None:
            seconds = named.end - named.start
        else:
            from c4c.retrieval.windows import frame_ends

            seconds = float(frame_ends(piece.clip_frames(row)[1])[-1])
        return (self.longer or 0) <= seconds <= (math.inf if self.shorter is None else self.shorter)


def _captioned(cache: Cache, words: str) -> dict[str, set[str]]:
    """Clips of each split of which a caption contains some words."""
    words = words.lower()
    return {
        split: {one.clip_id for one in manifest.captions if words in one.text.lower()}
        for split, manifest in cache.manifests.items()
    }


def _day(name: str, text: str | None) -> float:
    """Seconds since the epoch at the beginning of a day; of none, the end of all days."""
    if text is None:
        return -math.inf if name == "after" else math.inf
    try:
        return datetime.strptime(text, "%Y-%m-%d").timestamp()
    except ValueError:
        raise C4CError(f"--{name} is '{text}', expected a day such as 2024-05-31.") from None


def _changed(path: str) -> float:
    """When a file was last changed; of one that is gone, never."""
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return math.nan
