"""Which of a file's video tracks is the film: the one that a player shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

_STATED = ("mov", "avi")  # headers that say of each track how many pictures it has


@dataclass(slots=True)
class _Extent:
    """What of a track is in the file: pictures, and the seconds from the first to the last."""

    pictures: int = 0
    first: float = 0.0
    last: float = 0.0

    def add(self, time: float) -> None:
        self.first = min(self.first, time) if self.pictures else time
        self.last = max(self.last, time) if self.pictures else time
        self.pictures += 1


def candidates(container: Any) -> list[Any]:
    """Video streams that can be decoded, cover pictures left out."""
    import av.stream

    cover = av.stream.Disposition.attached_pic
    return [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & cover
    ]


def film(container: Any, again: Callable[[], AbstractContextManager[Any]]) -> Any:
    """The stream that a player shows, or ``None`` when there is none.

    A track without packets (a program that was taken out) is none, and pictures that accompany
    another track (thumbnails, stills, enhancement layers) come after every other. Then the
    file's own default counts, then the size, then the length.

    Args:
        container: an opened file.
        again: opens it anew, to count packets where the header does not say how many there are.
    """
    streams = candidates(container)
    if len(streams) < 2:
        return streams[0] if streams else None
    extents = _stated(container, streams) or _counted(again, [one.index for one in streams])
    return max(streams, key=lambda stream: _rank(stream, extents[stream.index]))


def _rank(stream: Any, extent: _Extent) -> tuple[float, ...]:
    import av.stream

    known = av.stream.Disposition
    aside = known.timed_thumbnails | known.still_image | known.dependent
    codec = stream.codec_context
    return (
        extent.pictures > 0,
        not stream.disposition & aside,
        extent.pictures > 1,  # one picture is a still, whatever the file calls it
        bool(stream.disposition & known.default),
        codec.width * codec.height,
        round(extent.last - extent.first),
        -stream.index,
    )


def _stated(container: Any, streams: Sequence[Any]) -> dict[int, _Extent]:
    """What the header says, when it does for each of the streams."""
    if not container.format.name.startswith(_STATED):
        return {}
    if not all(one.frames and one.duration and one.time_base for one in streams):
        return {}
    return {
        one.index: _Extent(one.frames, 0.0, float(one.duration * one.time_base)) for one in streams
    }


def _counted(
    again: Callable[[], AbstractContextManager[Any]], indices: Sequence[int]
) -> dict[int, _Extent]:
    extents = {index: _Extent() for index in indices}
    with again() as container:
        for packet in container.demux([container.streams[index] for index in indices]):
            if packet.size:
                stamp = packet.dts if packet.pts is None else packet.pts
                time = float((stamp or 0) * packet.time_base)
                extents[packet.stream_index].add(time)
    return extents
