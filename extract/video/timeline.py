"""Every frame of a video on one line of time; those that cannot be trusted left out."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from c4c.extract.video.damage import Damage
from c4c.extract.video.nal import Holes
from c4c.extract.video.opening import Refused, Video, check_size, reason

_REORDERING = 16  # frames: the most that a decoder puts into order


def timeline(
    video: Video, damage: Damage, origin: float | None = None
) -> Iterator[tuple[float, Any]]:
    """Every frame with its time.

    Args:
        video: just opened.
        damage: what is wrong is told to it.
        origin: the time stamp, in seconds, to count from; by default the first frame's.

    Yields:
        (Seconds from there, the frame), in the order of display; ``None``
        for a frame that is lost or cannot be trusted. Where time stamps begin anew they go on.

    Raises:
        Refused: encrypted, or frames that are too large.
    """
    base = origin
    latest = -video.step
    frames = _frames(video, damage)
    if video.container.format.name == "avi":
        frames = _in_order(frames)
    for stamp, frame in frames:
        now = latest + video.step
        time = now + (base or 0.0) if stamp is None else float(stamp * video.stream.time_base)
        base = time if base is None else min(base, time) if latest < 0 else base
        if time - base < latest:
            base = time - now
        latest = time - base
        yield latest, frame


def _in_order(frames: Iterable[tuple[int | None, Any]]) -> Iterator[tuple[int | None, Any]]:
    """AVI tells when packets are decoded: frames come in order, with each other's time stamps."""
    held: deque[Any] = deque()
    stamps: list[int] = []
    for stamp, frame in frames:
        if stamp is None:
            yield stamp, frame
            continue
        held.append(frame)
        heapq.heappush(stamps, stamp)
        if len(held) > _REORDERING:
            yield heapq.heappop(stamps), held.popleft()
    while held:
        yield heapq.heappop(stamps), held.popleft()


def _frames(video: Video, damage: Damage) -> Iterator[tuple[int | None, Any]]:
    """Frames as the decoder gives them, with their time stamps; lost ones as ``None``."""
    import av.error

    holes = Holes(video.codec)
    for packet in video.container.demux(video.stream):
        if packet.has_sidedata("encryption_info"):
            raise Refused("is encrypted")
        damage.sent(packet)
        if packet.is_corrupt:
            damage.note("packets marked corrupt by the container")
        for stamp in holes.found(packet):
            damage.note("a hole of zeros in a picture's data", stamp)
        try:
            frames = video.codec.decode(packet)
        except av.error.FFmpegError as error:
            damage.undecodable(reason(error), packet.pts)
            continue
        for frame in frames:
            check_size(frame.width, frame.height)
            for stamp in damage.lost(frame.pts):
                damage.note("frames lost by the decoder", stamp)
                yield stamp, None
            if frame.is_corrupt:
                damage.note("frames marked corrupt by the decoder", frame.pts)
            yield frame.pts, None if damage.spoils(frame.pts) else frame
    for stamp in damage.lost_at_the_end():
        damage.note("frames lost by the decoder", stamp)
        yield stamp, None
