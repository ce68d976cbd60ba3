"""A span of a video as a file of its own: copied from a key frame on, or encoded again.

It runs in a confined process (``apart_process.py``). Seconds count from the first picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from c4c.extract.video.damage import Damage
from c4c.extract.video.opening import Refused, Video, open_file, open_video
from c4c.extract.video.timeline import timeline

_TICKS = 90_000  # a second, of what is encoded again
_RATE = 25  # frames a second of a preview, at most
_SIDE = 640  # pixels of its longer side, at most
_BEFORE = 30.0  # seconds by which a seek may miss, or a group of pictures last
_LAST = 1.0  # seconds for which the last frame of a video may still be on display
_AFTER = 5.0  # seconds of picture after the span by which its sound must have come
_SOUNDS = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")  # those that MP4 holds


def copy_span(path: str, target: BinaryIO, start: float, end: float) -> None:
    """Copy the packets from the last key frame that is not after ``start`` up to ``end``.

    Raises:
        Refused: the file does not say when its frames are shown, or which are key frames.
    """
    import av

    with open_video(path) as video:
        if not video.timed:
            raise Refused("does not say when its frames are shown")
        container, stream = video.container, video.stream
        place, key = _key_frame(video, start)
        form = "mp4" if container.format.name.startswith("mov") else "matroska"
        sound = container.streams.audio[:1]
        with av.open(target, "w", format=form) as made:
            outs = {one.index: made.add_stream_from_template(one) for one in (stream, *sound)}
            container.seek(place, stream=stream, backward=True)
            limit = _origin(video) + end
            for packet in _from_key(container.demux(stream, *sound), stream, key, limit):
                _move(packet, float(key * stream.time_base), outs[packet.stream_index])
                made.mux(packet)


def _origin(video: Video) -> float:
    """The time stamp of the first picture, in seconds."""
    return float((video.stream.start_time or 0) * video.stream.time_base)


def _move(packet: Any, seconds: float, out: Any) -> None:
    """Hand a packet to another stream, so many seconds earlier."""
    ticks = round(seconds / packet.time_base)
    packet.pts -= ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks
    packet.stream = out


def _key_frame(video: Video, start: float) -> tuple[int, int]:
    """Where to seek, and the time stamp of the last key frame not after a second (or the first).

    Raises:
        Refused: there is none, or packets without time stamps.
    """
    container, stream = video.container, video.stream
    begin = stream.start_time or 0
    limit = int((_origin(video) + start) / stream.time_base)
    first: int | None = None
    # Containers without an index come out somewhere near, which may be behind the key frame.
    for place in (limit, max(begin, limit - int(_BEFORE / stream.time_base)), begin):
        container.seek(place, stream=stream, backward=True)
        latest: int | None = None
        for packet in container.demux(stream):
            if not packet.size:
                continue
            if packet.pts is None:
                raise Refused("does not say when its frames are shown")
            if first is not None and (packet.pts if packet.dts is None else packet.dts) > limit:
                break
            if packet.is_keyframe:
                first = packet.pts if first is None else first
                latest = packet.pts if packet.pts <= limit else latest
        if latest is not None:
            return place, latest
    if first is None:
        raise Refused("has no key frame")
    return begin, first


def _from_key(packets: Iterator[Any], stream: Any, key: int, limit: float) -> Iterator[Any]:
    """Packets of picture and sound between a key frame and a second of the file.

    Raises:
        Refused: a packet without a time stamp, or the key frame is not found again.
    """
    begin, begun, over = float(key * stream.time_base), False, False
    for packet in packets:
        if not packet.size:  # the end of a stream
            continue
        if packet.pts is None:
            raise Refused("does not say when its frames are shown")
        if packet.stream_index == stream.index:
            begun = begun or (packet.is_keyframe and packet.pts == key)
            # In decoding order: a frame before the end may follow from one after it.
            decoded = float((packet.pts if packet.dts is None else packet.dts) * packet.time_base)
            over = over or (begun and decoded >= limit)
            if decoded > limit + _AFTER:
                break
            # What is shown before the key frame follows from what is left out.
            if begun and not over and packet.pts >= key:
                yield packet
        elif begin <= float(packet.pts * packet.time_base) < limit:
            yield packet
    if not begun:
        raise Refused("has no frame there")


def encode_span(path: str, target: BinaryIO, start: float, end: float, small: bool = False) -> None:
    """Encode the frames from the one on display at ``start`` up to ``end`` as H.264 in MP4.

    Args:
        path: the video.
        target: where it is written.
        start: second of the video.
        end: likewise.
        small: at most 640 pixels and 25 frames a second, without sound.

    Raises:
        Refused: no frame is there.
    """
    import av

    with (
        open_video(path) as video,
        open_file(path) as again,
        av.open(target, "w", format="mp4") as made,
    ):
        origin = _origin(video)
        sound = iter(()) if small else _sound(again, made, origin + start, origin + end)
        pictures = _Pictures(made, video, _RATE if small else _TICKS, _SIDE if small else None)
        heard = next(sound, end)  # a stream must be told of before anything is written
        for time, frame in _shown(video, start, end):
            while heard < time:
                heard = next(sound, end)
            pictures.add(frame, time)
        pictures.finish()
        for _ in sound:
            pass


def _shown(video: Video, start: float, end: float) -> Iterator[tuple[float, Any]]:
    """Frames of a span, from the one on display at its start, with seconds from there."""
    container, stream = video.container, video.stream
    with contextlib.suppress(Refused):  # then from the very beginning
        if start > 0:
            container.seek(_key_frame(video, start)[0], stream=stream, backward=True)
    latest: tuple[float, Any] | None = None
    for time, frame in timeline(video, Damage(video.codec.name, video.timed), _origin(video)):
        if frame is None:
            continue
        if time >= end:
            break
        if time > start:
            if latest is not None:
                yield 0.0, latest[1]
            latest = None
            yield time - start, frame
        else:
            latest = time, frame
    if latest is not None and start < latest[0] + max(video.step, _LAST):
        yield 0.0, latest[1]


def _sound(container: Any, made: Any, start: float, end: float) -> Iterator[float]:
    """Copy the sound of a span, a packet a step; gives the seconds from its start so far."""
    for source in container.streams.audio[:1]:
        if source.codec_context.codec.canonical_name not in _SOUNDS:
            return
        out = made.add_stream_from_template(source)
        yield 0.0
        container.seek(max(0, int(start / source.time_base)), stream=source, backward=True)
        for packet in container.demux(source):
            if not packet.size or packet.pts is None:
                continue
            time = float(packet.pts * packet.time_base)
            if time >= end:
                return
            if time >= start:
                _move(packet, start, out)
                made.mux(packet)
                yield time - start


class _Pictures:
    """Encodes frames as they are shown.

    Args:
        made: the container that they go to.
        video: where they come from.
        ticks: a second; of frames that share one the first is taken.
        side: pixels of the longer side, at most.
    """

    def __init__(self, made: Any, video: Video, ticks: int, side: int | None) -> None:
        self._made, self._display, self._ticks, self._side = made, video.display, ticks, side
        self._rate = min(round(1 / video.step) or 1, ticks)
        self._out: Any = None
        self._latest = -1

    def add(self, frame: Any, time: float) -> None:
        """Encode a frame that is shown at a second."""
        import av

        tick = round(time * self._ticks)
        if tick <= self._latest:
            return
        picture = self._picture(frame)
        if self._out is None:
            self._out = self._stream(picture.shape)
        if picture.shape[:2] != (self._out.height, self._out.width):
            return  # a stream that changes its size
        image = av.VideoFrame.from_ndarray(picture, format="rgb24")
        image.pts, image.time_base = tick, Fraction(1, self._ticks)
        self._latest = tick
        self._made.mux(self._out.encode(image))

    def finish(self) -> None:
        """Write what the encoder holds back.

        Raises:
            Refused: there was no frame.
        """
        if self._out is None:
            raise Refused("has no frame there")
        self._made.mux(self._out.encode(None))

    def _stream(self, shape: tuple[int, ...]) -> Any:
        out = self._made.add_stream("libx264", rate=self._rate)
        out.height, out.width = shape[:2]
        out.pix_fmt = "yuv420p"
        out.codec_context.time_base = Fraction(1, self._ticks)
        out.codec_context.thread_count = 1
        out.options = {"preset": "veryfast", "crf": "26" if self._side else "18"}
        return out

    def _picture(self, frame: Any) -> Any:
        """RGB pixels as they are shown, with even sides that are not too long."""
        sides = self._display.size(frame)
        scale = min(1.0, (self._side or max(sides)) / max(sides))
        width, height = (max(2, int(side * scale) // 2 * 2) for side in sides)
        picture = frame.to_ndarray(format="rgb24", width=width, height=height)
        return np.ascontiguousarray(self._display.upright(picture, frame))
