"""Pictures that are equal to the one before share its feature: slides, screens, empty yards.

Products round by a row's place in the batch, and who leaves frames out moves those behind. So
features may differ in their last bits from those of encoding every frame, and this is not done
where frames are exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.encoder import Encoder, Row


class SharingEncoder(Encoder):
    """An encoder that is spared pictures equal to the one before in their clip."""

    def __init__(
        self, backbone: Backbone, size: int, hidden: bool = False, before: int = 0
    ) -> None:
        super().__init__(backbone, size, hidden, before)
        self._last: npt.NDArray[np.uint8] | None = None  # of the clip, as far as it has come
        self._fresh: list[npt.NDArray[np.bool_]] = []  # which of its pictures are new
        self._places: list[npt.NDArray[np.intp]] = []  # of each clip: whose feature each has

    def add(self, pixels: npt.NDArray[np.uint8], first: int = 0) -> None:
        """As ``Encoder.add``."""
        if first == 0:
            self._last, self._fresh = None, []
        fresh = np.ones(len(pixels), bool)
        fresh[1:] = (pixels[1:] != pixels[:-1]).any(axis=(1, 2, 3))
        if self._last is not None:
            fresh[0] = not np.array_equal(pixels[0], self._last)
        self._last = pixels[-1].copy()
        self._fresh.append(fresh)
        if fresh.any():
            super().add(pixels if fresh.all() else pixels[fresh], first)

    def end(self, kept: int) -> None:
        """As ``Encoder.end``; ``kept`` counts all pictures."""
        fresh = np.concatenate([np.zeros(0, bool), *self._fresh])[:kept]
        own = int(fresh.sum())
        self._places.append(np.cumsum(fresh) - 1)
        self.shared += kept - own
        self._last, self._fresh = None, []
        super().end(own)

    def _cut(self, rows: list[Row]) -> list[Row]:
        own = super()._cut(rows)
        return [row[places] for row, places in zip(own, self._places, strict=True)]
