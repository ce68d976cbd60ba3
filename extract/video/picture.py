"""From a decoded frame to the pixels that a backbone looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.fit import Fit


def picture_of(frame: Any, size: Fit | int | None, rotation: int = 0) -> npt.NDArray[np.uint8]:
    """RGB pixels, upright.

    Args:
        frame: as PyAV gives it.
        size: resize to what a backbone takes, and crop; a number is the side of a square that
            the short side is scaled to. Frames that would be enlarged are left whole.
        rotation: degrees, where the frame does not tell.

    Returns:
        uint8 [H, W, 3].
    """
    fit = Fit(size, size) if isinstance(size, int) else size
    turns = round((getattr(frame, "rotation", 0) or rotation) / 90) % 4
    width, height = frame.width, frame.height
    upright = (width, height) if turns % 2 else (height, width)
    target = fit.scaled(*upright) if fit else upright
    shrinks = target[0] <= upright[0] and target[1] <= upright[1]
    if shrinks:
        height, width = target[::-1] if turns % 2 else target
    filters = fit.interpolation.upper() if fit else "BICUBIC"
    picture = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation=filters)
    picture = np.rot90(picture, turns)
    if fit and shrinks and fit.resize == "shortest":
        top, left = (round((a - b) / 2) for a, b in zip(picture.shape[:2], fit.shape, strict=True))
        picture = picture[top : top + fit.height, left : left + fit.width]
    found: npt.NDArray[np.uint8] = np.ascontiguousarray(picture)
    return found


def resized(picture: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """``picture``, uint8 [h, w, 3], in the size [H, W, 3]."""
    import av

    frame: Any = av.VideoFrame.from_ndarray(picture, format="rgb24")
    scaled = frame.reformat(width=shape[1], height=shape[0], interpolation="BICUBIC")
    found: npt.NDArray[np.uint8] = scaled.to_ndarray()
    return found
