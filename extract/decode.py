"""Decoding: a clip in, frames by time stamp out. Imports no torch: it runs in many processes.

The file is distrusted: regular files only, no protocol but ``file``, known formats only,
sizes checked before a frame is allocated.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError
from c4c.extract.sparse import SHORTEST, TOLERANCE, Unsure, sparse_frames
from c4c.records import Clip, Frames
from c4c.sampling import select_frames

DECODERS = ("pyav", "decord")
# Containers of real videos; playlists (hls, concat, sdp, dash), which point elsewhere, are not.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,gif,flv,asf,ogg,mpegvideo,h264,hevc"
)
MAX_PIXELS = 8192 * 8192
_EPSILON = 1e-3  # seconds: time stamps are rounded to the container's ticks
_MOST_FRAMES = 100_000
_AT_ONCE = 16  # frames that decord gives, whole, before they are scaled down


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
        status: ``ok``; ``partial`` (ended early or had damaged packets, the frames are good);
            ``corrupt`` (nothing that can be trusted); ``failed`` (could not be opened).
        message: what went wrong, one line.
    """

    frames: Frames
    status: str = "ok"
    message: str = ""


def failure(status: str, message: str) -> Decoded:
    """A ``Decoded`` without frames."""
    empty = Frames(np.zeros((0, 1, 1, 3), np.uint8), np.zeros(0, np.float32))
    return Decoded(empty, status, " ".join(message.split())[:300])


class Taken:
    """Pictures of a clip as they are taken, all brought to the first one's size.

    A decoder process hands them on at once and keeps none (``workers.py``).
    """

    def __init__(self) -> None:
        self._pictures: list[npt.NDArray[np.uint8]] = []

    def __len__(self) -> int:
        return len(self._pictures)

    def append(self, picture: npt.NDArray[np.uint8]) -> None:
        """Take a picture, uint8 [H, W, 3]."""
        if self._pictures and picture.shape != self._pictures[0].shape:
            picture = resized(picture, self._pictures[0].shape)
        self._pictures.append(picture)

    def clear(self) -> None:
        """Forget what was taken: it is decoded anew in another way."""
        self._pictures = []

    def pixels(self) -> npt.NDArray[np.uint8]:
        """All pictures, uint8 [n, H, W, 3]; at least one was taken."""
        return np.stack(self._pictures)


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
        _check_file(clip.path)
        if request.decoder == "decord":
            return _decode_decord(clip, request, taken)
        return _decode_pyav(clip, request, taken)
    except _Refused as error:
        return failure("failed", str(error))
    except MemoryError:
        return failure("failed", "out of memory while decoding")
    except Exception as error:  # decoders raise whatever a broken file makes them raise
        return failure("failed", f"{type(error).__name__}: {error}")


class _Refused(Exception):
    """A file that is not to be decoded, and why."""


def _check_file(path: str) -> None:
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise _Refused(f"cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(found.st_mode):
        raise _Refused("is not a regular file")
    if found.st_size == 0:
        raise _Refused("is empty (zero bytes)")
    if not os.access(path, os.R_OK):
        raise _Refused("cannot be opened: Permission denied")


def _wanted(duration: float, clip: Clip, request: Request) -> npt.NDArray[np.float64]:
    """Times of the video to take, in seconds; at least one."""
    end = min(duration, clip.end) if clip.end is not None else duration
    count = max(1, int(np.ceil((end - clip.start) * request.fps - _EPSILON)))
    if count > _MOST_FRAMES and request.max_frames is None:
        raise _Refused(f"claims {end:.0f} s; pass --max-frames to take some of its frames")
    if request.max_frames is not None and count > request.max_frames:
        places = select_frames(count, request.max_frames, request.sampling)
    else:
        places = np.arange(count)
    return clip.start + places / request.fps


def _decode_pyav(clip: Clip, request: Request, taken: Taken) -> Decoded:
    with _open(clip.path) as container:
        stream = _video_stream(container)
        wanted = _wanted(_duration(container, stream, clip.path), clip, request)
        with contextlib.suppress(Unsure):
            for frame in sparse_frames(container, stream, wanted.tolist()):
                _check_size(frame.width, frame.height)
                taken.append(_picture(frame, request.size))
            return _judge(clip, wanted, taken, _Damage())
    taken.clear()
    with _open(clip.path) as container:
        damage = _Damage()
        frames = _frames(container, _video_stream(container), damage)
        return _collect(clip, wanted, frames, damage, request, taken)


def _open(path: str) -> Any:
    import av

    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    # A path, not a text that could name a protocol: ``a:b.mp4`` is a file here.
    return av.open("file:" + os.path.abspath(path), options=options)


def _video_stream(container: Any) -> Any:
    streams = [
        stream
        for stream in container.streams.video
        if not int(stream.disposition) & 0x400 and stream.codec_context is not None
    ]  # 0x400 marks cover art
    if not streams:
        raise _Refused("has no video stream")
    stream = streams[0]
    stream.thread_type = "NONE"  # one process a core already
    _check_size(stream.codec_context.width, stream.codec_context.height)
    return stream


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise _Refused(f"claims {width} x {height} pixels, more than {MAX_PIXELS} are refused")


def _duration(container: Any, stream: Any, path: str) -> float:
    """Seconds of video: what the stream says, else the container, else counted in packets."""
    if stream.duration and stream.time_base and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    if container.duration and container.duration > 0:
        return float(container.duration / 1_000_000)
    with _open(path) as again:
        packets = again.demux(video=0)
        times = [float(p.pts * p.time_base) for p in packets if p.pts is not None]
    return max(times) - min(times) + _EPSILON if times else 0.0


class _Damage:
    """Counts what was wrong on the way."""

    def __init__(self) -> None:
        self.errors = 0
        self.last = ""


def _frames(container: Any, stream: Any, damage: _Damage) -> Iterator[tuple[float, Any]]:
    """Frames in display order with their times, from 0 at the first; damage is counted."""
    import av

    base: float | None = None
    latest = -np.inf
    step = float(1 / stream.average_rate) if stream.average_rate else 1 / 25
    for packet in container.demux(stream):
        if packet.is_corrupt:
            damage.errors += 1
            damage.last = "packets marked corrupt by the container"
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            damage.errors += 1
            damage.last = str(error)
            continue
        for frame in frames:
            _check_size(frame.width, frame.height)
            if frame.is_corrupt:
                damage.errors += 1
                damage.last = "frames marked corrupt by the decoder"
                continue
            time = frame.time if frame.time is not None else max(latest, 0.0) + step
            base = time if base is None else base
            if time - base < latest:  # time stamps began again in mid-stream: go on from there
                base = time - latest - step
            latest = time - base
            yield latest, frame


def _collect(
    clip: Clip,
    wanted: npt.NDArray[np.float64],
    frames: Iterator[tuple[float, Any]],
    damage: _Damage,
    request: Request,
    taken: Taken,
) -> Decoded:
    """Take the frame on display at each wanted time."""
    shown: Any = None
    latest, gap = 0.0, SHORTEST
    for time, frame in frames:
        while (
            len(taken) < len(wanted) and shown is not None and time > wanted[len(taken)] + TOLERANCE
        ):
            taken.append(_picture(shown, request.size))
        if len(taken) == len(wanted):
            break
        gap = max(gap, time - latest)
        shown, latest = frame, time
    else:
        # The last frame stays on display for a while: as long as frames did before.
        limit = latest + gap + TOLERANCE
        while shown is not None and len(taken) < len(wanted) and wanted[len(taken)] < limit:
            taken.append(_picture(shown, request.size))
    return _judge(clip, wanted, taken, damage)


def _judge(
    clip: Clip,
    wanted: npt.NDArray[np.float64],
    taken: Taken,
    damage: _Damage,
) -> Decoded:
    if not taken:
        why = damage.last or "no frame could be decoded"
        return failure("corrupt" if damage.errors else "failed", why)
    times = (wanted[: len(taken)] - clip.start).astype(np.float32)
    frames = Frames(taken.pixels(), times)
    if damage.errors:
        return Decoded(frames, "partial", f"{damage.errors} damaged packets: {damage.last}"[:300])
    if len(taken) < len(wanted):
        lacking = f"ends early: {len(taken)} of {len(wanted)} frames"
        return Decoded(frames, "partial", lacking)
    return Decoded(frames)


def _picture(frame: Any, size: int | None) -> npt.NDArray[np.uint8]:
    """RGB pixels, upright; the middle of them, scaled down, when there is a ``size``."""
    width, height = frame.width, frame.height
    short = min(width, height)
    if size is not None and short > size:
        width, height = max(size, width * size // short), max(size, height * size // short)
    picture = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    picture = np.rot90(picture, turns)
    if size is not None and short >= size:  # a smaller frame is enlarged before it is cropped
        top, left = (round((side - size) / 2) for side in picture.shape[:2])
        picture = picture[top : top + size, left : left + size]
    upright: npt.NDArray[np.uint8] = np.ascontiguousarray(picture)
    return upright


def resized(picture: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """``picture``, uint8 [h, w, 3], in the size [H, W, 3]."""
    import av

    frame: Any = av.VideoFrame.from_ndarray(picture, format="rgb24")
    scaled = frame.reformat(width=shape[1], height=shape[0], interpolation="BICUBIC")
    found: npt.NDArray[np.uint8] = scaled.to_ndarray()
    return found


def _decode_decord(clip: Clip, request: Request, taken: Taken) -> Decoded:
    import av
    import decord

    # decord has no allow-lists: look with PyAV first.
    with _open(clip.path) as container:
        _video_stream(container)
        if container.start_time and container.format.name == "mpegts":
            raise _Refused("decord gives wrong frames of MPEG-TS; use --decoder pyav")
    reader = decord.VideoReader(str(Path(clip.path).absolute()), num_threads=1)
    shown = reader.get_frame_timestamp(range(len(reader))).astype(np.float64)
    shown -= shown[0, 0]
    wanted = _wanted(float(shown[-1, 1]), clip, request)
    places = np.maximum(np.searchsorted(shown[:, 0], wanted + _EPSILON, "right") - 1, 0)
    for first in range(0, len(places), _AT_ONCE):
        for one in reader.get_batch(places[first : first + _AT_ONCE].tolist()).asnumpy():
            taken.append(_picture(av.VideoFrame.from_ndarray(one, format="rgb24"), request.size))
    return Decoded(Frames(taken.pixels(), (wanted - clip.start).astype(np.float32)))
