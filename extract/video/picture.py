"""From a decoded frame to the pixels that a backbone looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.extract.video.display import Display
from c4c.extract.video.opening import check_size


def picture_of(frame: Any, size: int | None, display: Display) -> npt.NDArray[np.uint8]:
    """RGB pixels as they are shown: square and upright.

    Args:
        frame: as PyAV gives it.
        size: give the middle square, of frames whose short side is scaled down to this.
        display: how the frame is shown.

    Returns:
        uint8 [H, W, 3].

    Raises:
        Refused: its square pixels are too many.
    """
    width, height = display.size(frame)
    short = min(width, height)
    if size is not None and short > size:
        width, height = max(size, width * size // short), max(size, height * size // short)
    check_size(width, height)
    picture = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
    picture = display.upright(picture, frame)
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
