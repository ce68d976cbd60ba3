"""How a frame is brought to the size that a backbone takes: the arithmetic alone."""

from __future__ import annotations

from dataclasses import dataclass

from c4c.core.errors import C4CError
from c4c.core.limits import require_within

RESIZES = ("shortest", "longest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")


@dataclass(frozen=True, slots=True)
class Fit:
    """The size that a backbone takes, and the way there.

    Attributes:
        height: of the input, in pixels.
        width: likewise.
        resize: ``shortest`` resizes until the frame just covers the input and crops the middle,
            ``longest`` until it just lies within and pads, ``squash`` gives up its proportions.
        interpolation: ``bicubic`` or ``bilinear``, over as many pixels as come together in one.
    """

    height: int
    width: int
    resize: str = "shortest"
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        require_within("height", self.height, 1, 1 << 14)
        require_within("width", self.width, 1, 1 << 14)
        for value, known in ((self.resize, RESIZES), (self.interpolation, INTERPOLATIONS)):
            if value not in known:
                raise C4CError(f"Unknown way to resize '{value}'. Known: {', '.join(known)}.")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return self.height, self.width

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a frame after resizing, before it is cropped or padded.

        >>> Fit(224, 224).scaled(360, 640), Fit(224, 224, "longest").scaled(360, 640)
        ((224, 398), (126, 224))
        """
        if self.resize == "squash":
            return self.shape
        if self.resize == "shortest" and self.height == self.width:
            # The long side as torchvision and PIL pipelines truncate it, not rounded.
            size, short = self.height, min(height, width)
            return max(size, height * size // short), max(size, width * size // short)
        ratios = height / self.height, width / self.width
        ratio = max(ratios) if self.resize == "longest" else min(ratios)
        return max(1, round(height / ratio)), max(1, round(width / ratio))
