"""From a decoded frame to the pixels that a backbone looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.fit import Fit
from c4c.extract.video.display import Display
from c4c.extract.video.opening import check_size


def picture_of(frame: Any, size: Fit | int | None, display: Display) -> npt.NDArray[np.uint8]:
    """RGB pixels as they are shown: square and upright.

    Args:
        frame: as PyAV gives it.
        size: resize to what a backbone takes, and crop; a number is the side of a square that
            the short side is scaled to. Frames that would be enlarged are left whole.
        display: how the frame is shown.

    Returns:
        uint8 [H, W, 3].

    Raises:
        Refused: its square pixels are too many.
    """
    fit = Fit(size, size) if isinstance(size, int) else size
    width, height = display.size(frame)
    turned = display.swaps_axes(frame)
    shown = (width, height) if turned else (height, width)
    target = fit.scaled(*shown) if fit else shown
    shrinks = target[0] <= shown[0] and target[1] <= shown[1]
    if shrinks:
        height, width = target[::-1] if turned else target
    check_size(width, height)
    filters = fit.interpolation.upper() if fit else "BICUBIC"
    picture = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation=filters)
    picture = display.upright(picture, frame)
    if fit and shrinks and fit.resize == "shortest":
        top, left = (round((a - b) / 2) for a, b in zip(picture.shape[:2], fit.shape, strict=True))
        picture = picture[top : top + fit.height, left : left + fit.width]
    pixels: npt.NDArray[np.uint8] = np.ascontiguousarray(picture)
    return pixels


def resized(picture: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """``picture``, uint8 [h, w, 3], in the size [H, W, 3]."""
    import av

    frame: Any = av.VideoFrame.from_ndarray(picture, format="rgb24")
    scaled = frame.reformat(width=shape[1], height=shape[0], interpolation="BICUBIC")
    found: npt.NDArray[np.uint8] = scaled.to_ndarray()
    return found


class Taken:
    """Pictures of a clip as they are taken, all brought to the first one's size.

    A decoder process hands them on at once and keeps none (``handover.py``).
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
