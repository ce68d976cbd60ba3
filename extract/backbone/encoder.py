"""Frames to features: batches are filled across clips and encoded as they are full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.extract.backbone.patch3d import has_patch3d

if TYPE_CHECKING:
    import torch

    from c4c.extract.backbone.backbone import Backbone

Row = npt.NDArray[np.float16]


class Encoder:
    """Takes a shard's clips one after the other; gives their features.

    What a batch holds depends on the clips alone: a clip that turns out to be void leaves it as
    if the clip had never been there.

    Args:
        backbone: what encodes them.
        size: frames of a batch.
        hidden: stop before the projection.
        before: frames that an earlier run has encoded of the same shard; the first batch begins
            with as many rows as it left in its last one, so that every frame gets the place in
            its batch, and with it the rounding, of an undisturbed run.

    Attributes:
        frames: how many are held or encoded so far, those of the earlier run among them.
        shared: pictures that had the feature of another one (``extract/sharing.py``).
    """

    def __init__(
        self, backbone: Backbone, size: int, hidden: bool = False, before: int = 0
    ) -> None:
        self.backbone, self.hidden = backbone, hidden
        self.size = self.limit = size  # limit: what the device has memory for
        self.frames = before
        self.shared = 0
        self._whole = has_patch3d(backbone.model.visual)  # a frame's neighbours are a part of it
        self._first = before if self._whole else before - before % size  # of those encoded here
        self._waiting: list[torch.Tensor] = self._filled(before - self._first)
        self._rows: list[Row] = []  # features of batch after batch
        self._spans: list[tuple[int, int]] = []  # of each clip's features
        self._begin()

    def _filled(self, count: int) -> list[torch.Tensor]:
        """Frames that take up the rows of those that were encoded before; nobody reads them."""
        import torch

        blank = torch.zeros((count, *self.backbone.preprocessing.fit.shape, 3), dtype=torch.uint8)
        return [self.backbone.preprocess(blank)] if count else []

    def _begin(self) -> None:
        """A clip begins: what there is now is what to go back to."""
        self._before = list(self._waiting), len(self._rows)
        self._given = 0

    def _forget(self) -> None:
        """Take back what the clip has given."""
        self._waiting = list(self._before[0])
        del self._rows[self._before[1] :]
        self.frames -= self._given
        self._given = 0

    def add(self, pixels: npt.NDArray[np.uint8], first: int = 0) -> None:
        """Take frames of a clip.

        Args:
            pixels: uint8 [n, H, W, 3], n > 0; not looked at again.
            first: number of the first of them; 0 once more voids those before.
        """
        import torch

        if first == 0:
            self._forget()
        self._waiting.append(self.backbone.preprocess(torch.from_numpy(pixels)))
        self.frames += len(pixels)
        self._given += len(pixels)
        if not self._whole and sum(map(len, self._waiting)) >= self.size:
            self._flush(whole=False)

    def end(self, kept: int) -> None:
        """The clip has ended; its first ``kept`` frames are good."""
        if kept == 0:
            self._forget()
        start = self.frames - self._given
        self._spans.append((start, start + kept))
        if self._whole and kept:
            self._encode_clip()
        self._begin()

    def _flush(self, whole: bool) -> None:
        import torch

        if not self._waiting:
            return
        images = torch.cat(self._waiting)
        full = len(images) if whole else len(images) // self.size * self.size
        for start in range(0, full, self.size):
            self._rows += self._encoded(images[start : min(start + self.size, full)])
        self._waiting = [images[full:].clone()] if full < len(images) else []

    def _encoded(self, images: torch.Tensor) -> list[Row]:
        """Features of images, as many at once as the device has memory for."""
        import torch

        rows: list[Row] = []
        start = 0
        while start < len(images):
            part = images[start : start + self.limit]
            try:
                with torch.inference_mode():
                    features = self.backbone.encode_frames(self._padded(part), self.hidden)
            except torch.cuda.OutOfMemoryError:
                if self.limit == 1:
                    raise C4CError(
                        "The device has no memory for one frame; pass --device."
                    ) from None
                torch.cuda.empty_cache()
                self.limit = (self.limit + 1) // 2
                continue
            rows.append(features[: len(part)].to(torch.float16).cpu().numpy())
            start += len(part)
        return rows

    def _encode_clip(self) -> None:
        import torch

        images = torch.cat(self._waiting)
        self._waiting = []
        try:
            with torch.inference_mode():
                features = self.backbone.encode_video(images[None], hidden=self.hidden)[0]
        except torch.cuda.OutOfMemoryError:
            raise C4CError(
                f"The device has no memory for a clip of {len(images)} frames, and a 3d patch "
                "needs clips whole; pass --max-frames or --device."
            ) from None
        self._rows.append(features.to(torch.float16).cpu().numpy())

    def _padded(self, images: torch.Tensor) -> torch.Tensor:
        """Fill up a shard's last batch: kernels round otherwise for other numbers of rows."""
        import torch

        lacking = self.limit - len(images)
        return torch.cat([images, images[-1:].expand(lacking, -1, -1, -1)]) if lacking else images

    def finish(self) -> list[Row]:
        """Encode the rest; features of each clip, float16 [frames, D], in order."""
        self._flush(whole=True)
        return self._cut(self._rows)

    def so_far(self) -> list[Row]:
        """Features of the clips that have ended; those to come are not affected."""
        import torch

        waiting, count = self._before
        rest = self._encoded(torch.cat(waiting)) if waiting else []
        return self._cut([*self._rows[:count], *rest])

    @property
    def ended(self) -> int:
        """Frames of the clips that have ended, those of the earlier run among them."""
        return self.frames - self._given

    def _cut(self, rows: list[Row]) -> list[Row]:
        features = np.concatenate([np.zeros((0, self.width), np.float16), *rows])
        return [features[a - self._first : b - self._first] for a, b in self._spans]

    @property
    def width(self) -> int:
        """D of the features asked for."""
        return self.backbone.hidden_dims[0] if self.hidden else self.backbone.embed_dim
