"""How a decoded frame is shown: square pixels, upright, mirrored where the file says so."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

# A pixel ten times as wide as high is no lens's and no disc's: the header is broken.
_PLAUSIBLE = 10
_CURVES = {16: "PQ", 18: "HLG"}  # transfer characteristics, as ITU-T H.273 numbers them


@dataclass(frozen=True, slots=True)
class Display:
    """What a file says of how its frames are shown.

    Attributes:
        aspect: width of a pixel over its height.
        matrix: the display matrix where frames do not carry it themselves: nine whole numbers,
            row by row, the first two columns with 16 binary places.
        curve: ``PQ`` or ``HLG`` when the video is HDR.
    """

    aspect: Fraction = Fraction(1)
    matrix: tuple[int, ...] = ()
    curve: str = ""

    def size(self, frame: Any) -> tuple[int, int]:
        """Width and height of a frame in square pixels, before it is turned."""
        return max(1, round(frame.width * self.aspect)), frame.height

    def swaps_axes(self, frame: Any) -> bool:
        """Whether a frame is shown on its side: its width is the height of what is seen."""
        matrix = matrix_of(frame) or self.matrix
        if not matrix:
            return False
        # A point (x, y) is shown at (a x + c y, b x + d y): b and c outweigh a and d.
        a, b, _, c, d = matrix[:5]
        return abs(b) + abs(c) > abs(a) + abs(d)

    def upright(self, picture: npt.NDArray[np.uint8], frame: Any) -> npt.NDArray[np.uint8]:
        """A frame's pixels, uint8 [H, W, 3], turned and mirrored as it is shown; a view."""
        matrix = matrix_of(frame) or self.matrix
        if not matrix:
            return picture
        # A negative weight reverses the axis that it leads to.
        a, b, _, c, d = matrix[:5]
        if self.swaps_axes(frame):
            picture, a, d = picture.transpose(1, 0, 2), c, b
        return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def display_of(stream: Any) -> Display:
    """What a video stream says of its frames, apart from what each of them carries."""
    aspect = stream.sample_aspect_ratio
    if not aspect or not 1 / _PLAUSIBLE <= aspect <= _PLAUSIBLE:
        aspect = Fraction(1)
    return Display(aspect, (), _CURVES.get(stream.codec_context.color_trc, ""))


def matrix_of(frame: Any) -> tuple[int, ...]:
    """The display matrix that a frame carries; empty when it carries none."""
    from av.sidedata.sidedata import Type

    try:
        held = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # beside data of a kind that PyAV does not know: it gives the angle alone
        return _turn(frame.rotation)
    return struct.unpack("=9i", bytes(held)[:36]) if held is not None else ()


def _turn(degrees: int) -> tuple[int, ...]:
    """The matrix of quarter turns to the left."""
    a, b = [(1, 0), (0, -1), (-1, 0), (0, 1)][round(degrees / 90) % 4]
    return (a, b, 0, -b, a, 0, 0, 0, 1)


def is_mirrored(matrix: tuple[int, ...]) -> bool:
    """Whether a matrix does more than turn."""
    return bool(matrix) and matrix[0] * matrix[4] - matrix[1] * matrix[3] <= 0
