"""Decoding: a clip in, frames by time stamp out. Imports no torch: it runs in many processes.

The file is distrusted (``opening.py``), and so is what a decoder makes of it (``timeline.py``).
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.fit import Fit
from c4c.core.records import Clip, Frames
from c4c.extract.video.damage import Damage
from c4c.extract.video.length import stays
from c4c.extract.video.nearby import Keys, Near, nearby_frames
from c4c.extract.video.opening import (
    Refused,
    Video,
    check_file,
    check_size,
    complaints,
    open_video,
    reason,
)
from c4c.extract.video.packets import SHORTEST, TOLERANCE, Unsure
from c4c.extract.video.picture import Taken, picture_of
from c4c.extract.video.request import DECODERS, Request
from c4c.extract.video.span import Wanted, lead, wanted_times
from c4c.extract.video.sparse import sparse_frames
from c4c.extract.video.timeline import timeline

_EPSILON = 1e-3  # seconds: time stamps are rounded to the container's ticks
_AT_ONCE = 16  # frames that decord gives, whole, before they are scaled down
HDR = "HDR"  # what the message of such a clip says
ENDS_EARLY = "ends early"
_ALIKE = 24  # levels, on average: two decoders' colours differ by less, other frames by more


@dataclass(frozen=True, slots=True)
class Decoded:
    """Frames of a clip, and how far they can be trusted.

    Attributes:
        frames: what was decoded; none when it failed.
        status: ``ok``; ``partial`` (ended early or had damaged packets: frames that may suffer
            from it are left out); ``corrupt`` (nothing that can be trusted); ``failed`` (could
            not be opened).
        message: what went wrong, one line.
    """

    frames: Frames
    status: str = "ok"
    message: str = ""


def failure(status: str, message: str) -> Decoded:
    """A ``Decoded`` without frames."""
    empty = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, np.float32))
    return Decoded(empty, status, " ".join(message.split())[:300])


def decoder_version(name: str) -> str:
    """Name and version, for the fingerprint.

    Raises:
        C4CError: unknown, or not installed.
    """
    from importlib.metadata import PackageNotFoundError, version

    if name not in DECODERS:
        raise C4CError(f"Unknown decoder '{name}'. Known: {', '.join(DECODERS)}.")
    package = {"pyav": "av", "decord": "decord"}[name]
    try:
        return f"{name} {version(package)}"
    except PackageNotFoundError:
        raise C4CError(f"Decoder '{name}' is not installed: pip install {package}.") from None


def decode_clip(clip: Clip, request: Request | None = None, taken: Taken | None = None) -> Decoded:
    """Decode one clip in this process.

    The frame for time t is the one on display then: the last whose time stamp is not after t.
    Times count from the clip's start; they are 0, 1/fps, 2/fps, … as far as the video goes.
    In the modes ``near`` and ``key`` they are those at which the frames taken begin to show.

    Args:
        clip: what to decode.
        request: how to sample it.
        taken: what pictures are given to as they come.

    Returns:
        Frames and status; never raises for what a file can do wrong.
    """
    request = request or Request()
    taken = Taken() if taken is None else taken  # an empty one is false
    try:
        before = check_file(clip.path)
        decode = _decode_decord if request.decoder == "decord" else _decode_pyav
        found = decode(clip, request, taken)
        after = os.stat(clip.path)
    except Refused as error:
        return failure("failed", str(error))
    except MemoryError:
        return failure("failed", "out of memory while decoding")
    except Exception as error:  # decoders raise whatever a broken file makes them raise
        return failure("failed", reason(error))
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        changed = "the file changed while it was decoded; extract it again"
        return Decoded(found.frames, "partial", changed) if len(found.frames) else found
    return found


def _decode_pyav(clip: Clip, request: Request, taken: Taken) -> Decoded:
    with open_video(clip.path) as video:
        wanted = wanted_times(video, clip, request.fps, request.max_frames, request.sampling)
        notes = _notes(video, wanted)
        with contextlib.suppress(Unsure):
            before = complaints()
            times = _quickly(video, clip, request, wanted, taken)
            if complaints() == before:
                frames = Frames(taken.pixels(), np.array(times, np.float32))
                status = "partial" if wanted.lacks else "ok"
                return Decoded(frames, status, "; ".join(notes)[:300])
    places, damage = _collect(clip.path, wanted, request.size, taken)
    if damage.errors:  # once more, now that it is known what cannot be trusted
        places, _ = _collect(clip.path, wanted, request.size, taken, damage)
    return _judge(clip, wanted, places, taken, notes, damage)


def _quickly(
    video: Video, clip: Clip, request: Request, wanted: Wanted, taken: Taken
) -> list[float]:
    """Take the pictures that are wanted without decoding all; their times.

    Raises:
        Unsure: what was taken may be wrong.
    """
    frames: Iterator[tuple[Any, float]]
    if request.mode == "exact":
        frames = zip(sparse_frames(video, wanted), wanted.times - clip.start, strict=True)
    else:
        frames = nearby_frames(video, wanted, clip, _choice(request))
    times = []
    for frame, time in frames:
        check_size(frame.width, frame.height)
        taken.append(picture_of(frame, request.size, video.display))
        times.append(float(time))
    return times


def _choice(request: Request) -> Near | Keys:
    """Which frames are taken when they need not be exact."""
    return Keys(request.max_gap) if request.mode == "key" else Near(0.5 / request.fps)


def _collect(
    path: str,
    wanted: Wanted,
    size: Fit | int | None,
    taken: Taken,
    known: Damage | None = None,
) -> tuple[list[int], Damage]:
    """Take the picture on display at each wanted time; which these are, and what was damaged."""
    taken.clear()
    places = []
    with open_video(path) as video:
        damage = Damage(video.codec.name, video.timed, known)
        for place, frame in _on_display(video, wanted, timeline(video, damage, wanted.origin)):
            taken.append(picture_of(frame, size, video.display))
            places.append(place)
    return places, damage


def _on_display(
    video: Video, wanted: Wanted, frames: Iterator[tuple[float, Any]]
) -> Iterator[tuple[int, Any]]:
    """The frame at each wanted time, by place; none where it cannot be trusted."""
    shown: Any = None
    place, latest, gap = 0, -1.0, SHORTEST
    times = wanted.times
    for time, frame in itertools.chain(frames, [(-1.0, None)]):
        until = time
        if time < 0:
            # The last frame stays as long as it says, or as frames did before.
            own = stays(video, shown.duration) if shown is not None else 0.0
            until = max(latest + max(gap, own) + 2 * TOLERANCE, wanted.until)
        while latest >= 0 and place < len(times) and times[place] + TOLERANCE < until:
            if shown is not None:
                yield place, shown
            place += 1
        if place == len(times):
            return
        gap = max(gap, time - latest) if latest >= 0 else gap
        shown, latest = frame, time


def _notes(video: Video, wanted: Wanted) -> tuple[str, ...]:
    """What must be said of a clip even when all of its frames are there."""
    curve = video.display.curve
    return tuple(
        filter(None, [wanted.beyond, wanted.cut, curve and f"{HDR} ({curve}) taken as SDR"])
    )


def _judge(
    clip: Clip,
    wanted: Wanted,
    places: Sequence[int],
    taken: Taken,
    notes: tuple[str, ...],
    damage: Damage,
) -> Decoded:
    why = damage.last
    if not places:
        words = why or wanted.beyond or "no frame could be decoded"
        return failure("corrupt" if why else "failed", words)
    times = wanted.times
    frames = Frames(taken.pixels(), (times[list(places)] - clip.start).astype(np.float32))
    lacking = f"{len(places)} of {len(times)} frames"
    if why:
        notes = (f"damaged, {lacking}: {why}", *notes)
    elif len(places) < len(times):
        notes = (f"{ENDS_EARLY}: {lacking}", *notes)
    complete = len(places) == len(times) and not why and not wanted.lacks
    return Decoded(frames, "ok" if complete else "partial", "; ".join(notes)[:300])


class _Thumbnails(Taken):
    """Keeps enough of each picture to tell it from another."""

    def append(self, picture: npt.NDArray[np.uint8]) -> None:
        """Take a picture, uint8 [H, W, 3]."""
        super().append(_thumbnail(picture))


def _thumbnail(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    return picture[:: -(-height // 16), :: -(-width // 16)].copy()


def _decode_decord(clip: Clip, request: Request, taken: Taken) -> Decoded:
    """Decord's frames where PyAV finds good ones: it clamps times, and is silent about damage."""
    import av
    import decord

    with open_video(clip.path) as video:
        if video.container.start_time and video.container.format.name == "mpegts":
            raise Refused("decord gives wrong frames of MPEG-TS; use --decoder pyav")
        timed, step, before = video.timed, video.step, lead(video, clip)
        display = replace(video.display, matrix=())  # decord turns frames itself
    judged = _decode_pyav(clip, request, _Thumbnails())
    if not len(judged.frames):
        return judged
    reader = decord.VideoReader(str(Path(clip.path).absolute()), num_threads=1)
    shown = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
    if not timed:  # no time stamps in the file, and none but nonsense from decord
        shown = np.arange(len(reader)) * step
    wanted = judged.frames.times.astype(np.float64) + clip.start - before + shown[0] + _EPSILON
    places = np.maximum(np.searchsorted(shown, wanted, "right") - 1, 0)
    for first in range(0, len(places), _AT_ONCE):
        whole = reader.get_batch(places[first : first + _AT_ONCE].tolist()).asnumpy()
        for one, known in zip(whole, judged.frames.pixels[first:], strict=False):
            frame = av.VideoFrame.from_ndarray(one, format="rgb24")
            picture = picture_of(frame, request.size, display)
            alike = _thumbnail(picture).shape == known.shape
            if not alike or np.abs(_thumbnail(picture).astype(np.int16) - known).mean() > _ALIKE:
                raise Refused("decord gives other frames than PyAV; use --decoder pyav")
            taken.append(picture)
    return replace(judged, frames=Frames(taken.pixels(), judged.frames.times))
