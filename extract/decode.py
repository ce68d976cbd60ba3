"""Decoding: a clip in, frames by time stamp out. Imports no torch: it runs in many processes.

The file is distrusted (``opening.py``), and so is what a decoder makes of it (``timeline.py``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError
from c4c.extract.damage import Damage
from c4c.extract.opening import (
    Refused,
    check_file,
    check_size,
    complaints,
    duration,
    open_video,
    reason,
)
from c4c.extract.sparse import SHORTEST, TOLERANCE, Unsure, sparse_frames
from c4c.extract.timeline import timeline
from c4c.records import Clip, Frames
from c4c.sampling import select_frames

DECODERS = ("pyav", "decord")
_EPSILON = 1e-3  # seconds: time stamps are rounded to the container's ticks
_MOST_FRAMES = 100_000
_ALIKE = 24  # levels, on average: two decoders' colours differ by less, other frames by more


@dataclass(frozen=True, slots=True)
class Request:
    """How to sample a clip.

    Attributes:
        fps: frames a second.
        max_frames: frames at most; ``None`` is all.
        sampling: which ones when there are more (``head``, ``tail``, ``uniform``).
        decoder: ``pyav`` or ``decord``.
        size: give what a backbone of this input size looks at, the middle square of frames
            whose short side is scaled down to it (smaller frames are left whole):
            150 kB a frame at 224, whatever the video's size. ``None`` leaves frames whole.
    """

    fps: float = 1.0
    max_frames: int | None = None
    sampling: str = "uniform"
    decoder: str = "pyav"
    size: int | None = None


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


def decode_clip(clip: Clip, request: Request | None = None) -> Decoded:
    """Decode one clip in this process.

    The frame for time t is the one on display then: the last whose time stamp is not after t.
    Times count from the clip's start; they are 0, 1/fps, 2/fps, … as far as the video goes.

    Returns:
        Frames and status; never raises for what a file can do wrong.
    """
    request = request or Request()
    try:
        before = check_file(clip.path)
        decode = _decode_decord if request.decoder == "decord" else _decode_pyav
        found = decode(clip, request)
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


def _wanted(duration: float, clip: Clip, request: Request) -> npt.NDArray[np.float64]:
    """Times of the video to take, in seconds; at least one."""
    end = min(duration, clip.end) if clip.end is not None else duration
    count = max(1, int(np.ceil((end - clip.start) * request.fps - _EPSILON)))
    if count > _MOST_FRAMES and request.max_frames is None:
        raise Refused(f"claims {end:.0f} s; pass --max-frames to take some of its frames")
    if request.max_frames is not None and count > request.max_frames:
        places = select_frames(count, request.max_frames, request.sampling)
    else:
        places = np.arange(count)
    return clip.start + places / request.fps


def _decode_pyav(clip: Clip, request: Request) -> Decoded:
    with open_video(clip.path) as video:
        wanted = _wanted(duration(video, clip.path), clip, request)
        with contextlib.suppress(Unsure):
            before, taken = complaints(), {}
            for place, frame in enumerate(sparse_frames(video, wanted.tolist())):
                check_size(frame.width, frame.height)
                taken[place] = _picture(frame, request.size, video.rotation)
            if complaints() == before:
                return _judge(clip, wanted, taken)
    taken, damage = _collect(clip.path, wanted, request.size)
    if damage.errors:  # once more, now that it is known what cannot be trusted
        taken, _ = _collect(clip.path, wanted, request.size, damage)
    return _judge(clip, wanted, taken, damage)


def _collect(
    path: str, wanted: npt.NDArray[np.float64], size: int | None, known: Damage | None = None
) -> tuple[dict[int, npt.NDArray[np.uint8]], Damage]:
    """The picture on display at each wanted time, by place, and what was damaged on the way."""
    with open_video(path) as video:
        damage = Damage(video.codec.name, video.timed, known)
        return _on_display(wanted, timeline(video, damage), size, video.rotation), damage


def _on_display(
    wanted: npt.NDArray[np.float64],
    frames: Iterator[tuple[float, Any]],
    size: int | None,
    rotation: int,
) -> dict[int, npt.NDArray[np.uint8]]:
    """The picture on display at each wanted time, by place; none where it cannot be trusted."""
    taken: dict[int, npt.NDArray[np.uint8]] = {}
    shown: Any = None
    place, latest, gap = 0, -1.0, SHORTEST

    def take(until: float) -> None:
        nonlocal place
        while place < len(wanted) and wanted[place] + TOLERANCE < until:
            if shown is not None:
                taken[place] = _picture(shown, size, rotation)
            place += 1

    for time, frame in frames:
        if latest >= 0:
            take(until=time)
            gap = max(gap, time - latest)
        if place == len(wanted):
            return taken
        shown, latest = frame, time
    if latest >= 0:  # the last frame stays on display for a while: as long as frames did before
        take(until=latest + gap + 2 * TOLERANCE)
    return taken


def _judge(
    clip: Clip,
    wanted: npt.NDArray[np.float64],
    taken: dict[int, npt.NDArray[np.uint8]],
    damage: Damage | None = None,
) -> Decoded:
    why = damage.last if damage else ""
    if not taken:
        return failure("corrupt" if why else "failed", why or "no frame could be decoded")
    pictures = list(taken.values())
    if len({picture.shape for picture in pictures}) > 1:
        # The size changed in mid-stream: bring all to the first one's.
        pictures = [_resized(picture, pictures[0].shape) for picture in pictures]
    times = (wanted[list(taken)] - clip.start).astype(np.float32)
    frames = Frames(np.stack(pictures), times)
    lacking = f"{len(taken)} of {len(wanted)} frames"
    if why:
        return Decoded(frames, "partial", f"damaged, {lacking}: {why}"[:300])
    if len(taken) < len(wanted):
        return Decoded(frames, "partial", f"ends early: {lacking}")
    return Decoded(frames)


def _picture(frame: Any, size: int | None, rotation: int = 0) -> npt.NDArray[np.uint8]:
    """RGB pixels, upright; the middle of them, scaled down, when there is a ``size``."""
    width, height = frame.width, frame.height
    short = min(width, height)
    if size is not None and short > size:
        width, height = max(size, width * size // short), max(size, height * size // short)
    picture = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
    turns = round((getattr(frame, "rotation", 0) or rotation) / 90) % 4
    picture = np.rot90(picture, turns)
    if size is not None and short >= size:  # a smaller frame is enlarged before it is cropped
        top, left = (round((side - size) / 2) for side in picture.shape[:2])
        picture = picture[top : top + size, left : left + size]
    upright: npt.NDArray[np.uint8] = np.ascontiguousarray(picture)
    return upright


def _resized(picture: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    import av

    frame: Any = av.VideoFrame.from_ndarray(picture, format="rgb24")
    scaled = frame.reformat(width=shape[1], height=shape[0], interpolation="BICUBIC")
    found: npt.NDArray[np.uint8] = scaled.to_ndarray()
    return found


def _decode_decord(clip: Clip, request: Request) -> Decoded:
    """Decord's frames where PyAV finds good ones: it clamps times, and is silent about damage."""
    import av
    import decord

    with open_video(clip.path) as video:
        if video.container.start_time and video.container.format.name == "mpegts":
            raise Refused("decord gives wrong frames of MPEG-TS; use --decoder pyav")
        timed, step = video.timed, video.step
    judged = _decode_pyav(clip, request)
    if not len(judged.frames):
        return judged
    reader = decord.VideoReader(str(Path(clip.path).absolute()), num_threads=1)
    shown = reader.get_frame_timestamp(range(len(reader)))[:, 0].astype(np.float64)
    if not timed:  # no time stamps in the file, and none but nonsense from decord
        shown = np.arange(len(reader)) * step
    wanted = judged.frames.times.astype(np.float64) + clip.start + shown[0] + _EPSILON
    places = np.maximum(np.searchsorted(shown, wanted, "right") - 1, 0)
    pictures = [
        _picture(av.VideoFrame.from_ndarray(one, format="rgb24"), request.size)
        for one in reader.get_batch(places.tolist()).asnumpy()
    ]
    frames = Frames(np.stack(pictures), judged.frames.times)
    apart = np.abs(frames.pixels.astype(np.int16) - judged.frames.pixels).mean((1, 2, 3))
    if apart.max() > _ALIKE:
        raise Refused("decord gives other frames than PyAV; use --decoder pyav")
    return replace(judged, frames=frames)
