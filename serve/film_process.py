"""What runs in a confined process of its own: videos looked at or turned into MP4, pictures read.

``film.py`` starts it. It gets the number of a file that is open already, and writes nothing but
that; its parent believes nothing of it.
"""

from __future__ import annotations

import json
import os
import struct
from fractions import Fraction
from typing import Any

import numpy as np

from c4c.extract.video.display import Display
from c4c.extract.video.length import length_of
from c4c.extract.video.opening import Refused, first_frame, open_video

_RATE = 25  # frames a second of a preview, at most
_SIDE = 640  # pixels of its longer side, at most
_PICTURE = 1024  # pixels of a picture's longer side, at most
_PICTURES = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def run(task: str, handle: int, path: str, *numbers: str) -> None:
    """``look``, ``convert`` or ``picture``; what cannot be done ends with status 3."""
    import av.error

    try:
        with os.fdopen(handle, "r+b" if task == "convert" else "wb") as target:
            if task == "look":
                target.write(json.dumps(_look(path)).encode())
            elif task == "picture":
                target.write(_picture(path))
            else:
                _convert(path, target, *map(float, numbers))
    except (Refused, OSError, ValueError, SyntaxError, av.error.FFmpegError):
        os._exit(3)  # standard files lead nowhere


def _look(path: str) -> dict[str, Any]:
    with open_video(path) as video:
        codec = video.stream.codec_context  # the strict decoder of VP9 knows no size yet
        pixels = codec.format
        frame = first_frame(path, video.stream.index)
        if frame is None:
            raise Refused("has no frame")
        width, height = video.display.size(frame)
        if video.display.swaps_axes(frame):
            width, height = height, width
        return {
            "container": video.container.format.name,
            "codec": codec.name,
            "bits": pixels.components[0].bits if pixels else 0,
            "pixels": pixels.name if pixels else "",
            "width": width,
            "height": height,
            "seconds": length_of(video, path).seconds,
        }


def _convert(path: str, target: Any, start: float, seconds: float) -> None:
    """Frames from ``start`` on as H.264 in MP4, without sound."""
    import av

    with open_video(path) as video, av.open(target, "w", format="mp4") as made:
        container, stream = video.container, video.stream
        base = float(stream.start_time or 0) * float(stream.time_base or 0)
        if start > 0 and stream.time_base:
            container.seek(int((base + start) / stream.time_base), stream=stream)
        out: Any = None
        latest = -1
        for frame in container.decode(stream):
            time = (frame.time or 0.0) - base - start
            tick = round(time * _RATE)
            if time < -1 / _RATE or tick <= latest:
                continue
            if time >= seconds:
                break
            picture = _scaled(frame, video.display)
            if out is None:
                out = _stream(made, picture.shape)
            if picture.shape[:2] != (out.height, out.width):
                continue  # a stream that changes its size
            image = av.VideoFrame.from_ndarray(picture, format="rgb24")
            image.pts, image.time_base, latest = tick, Fraction(1, _RATE), tick
            made.mux(out.encode(image))
        if out is None:
            raise Refused("has no frame there")
        made.mux(out.encode(None))


def _stream(made: Any, shape: tuple[int, ...]) -> Any:
    out = made.add_stream("libx264", rate=_RATE)
    out.height, out.width = shape[:2]
    out.pix_fmt = "yuv420p"
    out.codec_context.time_base = Fraction(1, _RATE)
    out.codec_context.thread_count = 1
    out.options = {"preset": "veryfast", "crf": "26"}
    return out


def _scaled(frame: Any, display: Display) -> Any:
    """RGB pixels as they are shown, with even sides that are not too long."""
    sides = display.size(frame)
    scale = min(1.0, _SIDE / max(sides))
    width, height = (max(2, int(side * scale) // 2 * 2) for side in sides)
    picture = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(display.upright(picture, frame))


def _picture(path: str) -> bytes:
    """Height and width, then RGB pixels, upright."""
    from PIL import Image, ImageOps

    with Image.open(path, formats=_PICTURES) as image:
        image.draft("RGB", (_PICTURE, _PICTURE))
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((_PICTURE, _PICTURE))
    return struct.pack("<II", upright.height, upright.width) + upright.tobytes()
