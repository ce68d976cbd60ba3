"""The rules by which pictures are taken, by number: what makes a newer one concern a clip.

1. Those of commit 32ebc70: the first track that is no cover, pixels as if they were square,
   frames turned and not mirrored, the container's length, spans from the first picture on.
2. The track that a player shows (``tracks.py``), square pixels and mirrored frames
   (``display.py``), the video's own length and its last picture's (``length.py``), spans from
   the container's start (``span.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from c4c.core.records import Clip
from c4c.extract.video.decode import ENDS_EARLY, Decoded, failure
from c4c.extract.video.display import is_mirrored, matrix_of
from c4c.extract.video.opening import Refused, Video, check_file, first_frame, open_video, reason
from c4c.extract.video.request import Request
from c4c.extract.video.span import Wanted, wanted_times
from c4c.extract.video.tracks import candidates

RULES = 2


@dataclass(frozen=True, slots=True)
class Extracted(Clip):
    """A clip that was extracted by rules 1.

    Attributes:
        times: seconds of the frames that it has, from its start.
        status: of its row in the cache.
        message: of its row in the cache.
    """

    times: tuple[float, ...] = ()
    status: str = "ok"
    message: str = ""


def review(clip: Extracted, request: Request) -> Decoded:
    """Whether newer rules concern a clip; its header is looked at, hardly any frame is decoded.

    Returns:
        No frames; ``outdated``, and why, when it should be extracted again; ``current``; or
        ``failed`` when it cannot be said.
    """
    try:
        check_file(clip.path)
        with open_video(clip.path) as video:
            wanted = wanted_times(video, clip, request.fps, request.max_frames, request.sampling)
            why = ", ".join(_concerns(clip, video, wanted))
        return failure("outdated" if why else "current", why)
    except Refused as error:
        return failure("failed", str(error))
    except Exception as error:  # decoders raise whatever a broken file makes them raise
        return failure("failed", reason(error))


def _concerns(clip: Extracted, video: Video, wanted: Wanted) -> Iterator[str]:
    index = video.stream.index
    if index != candidates(video.container)[0].index:
        yield "track"
    if video.display.aspect != 1:
        yield "aspect ratio"
    frame = first_frame(clip.path, index)
    if frame is not None and is_mirrored(matrix_of(frame)):
        yield "mirror"
    if wanted.origin is not None:
        yield "start"
    if not _are_of(clip, wanted):
        yield "length"


def _are_of(clip: Extracted, wanted: Wanted) -> bool:
    """Whether the frames of a clip are of the times that are wanted now."""
    times = (wanted.times - clip.start).astype(np.float32)
    known = np.array(clip.times, np.float32)
    if clip.status == "ok":
        return np.array_equal(times, known) and not wanted.lacks
    return ENDS_EARLY not in clip.message and bool(np.isin(known, times).all())
