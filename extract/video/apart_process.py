"""What runs in a confined process of its own: videos looked at or cut, pictures read.

``apart.py`` starts it. It gets the number of a file that is open already, and writes nothing but
that; its parent believes nothing of it.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

from c4c.extract.video.cutting import copy_span, encode_span
from c4c.extract.video.length import length_of
from c4c.extract.video.opening import Refused, check_file, first_frame, open_video

_PICTURE = 1024  # pixels of a picture's longer side, at most
_PICTURES = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def run(task: str, handle: int, path: str, *numbers: str) -> None:
    """``look``, ``picture``, ``preview``, ``copy`` or ``encode``; what fails ends with status 3."""
    import av.error

    span = [float(number) for number in numbers]
    try:
        check_file(path)  # a pipe would be waited on
        with os.fdopen(handle, "wb" if task in ("look", "picture") else "r+b") as target:
            if task == "look":
                target.write(json.dumps(_look(path)).encode())
            elif task == "picture":
                target.write(_picture(path))
            elif task == "copy":
                copy_span(path, target, span[0], span[1])
            else:
                encode_span(path, target, span[0], span[1], small=task == "preview")
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
            "rate": 1 / video.step,
        }


def _picture(path: str) -> bytes:
    """Height and width, then RGB pixels, upright."""
    from PIL import Image, ImageOps

    with Image.open(path, formats=_PICTURES) as image:
        image.draft("RGB", (_PICTURE, _PICTURE))
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((_PICTURE, _PICTURE))
    return struct.pack("<II", upright.height, upright.width) + upright.tobytes()
