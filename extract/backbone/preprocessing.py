"""From frames to what a vision tower takes, as open_clip's own transform does it, but batched.

What weights were trained with travels with them: open_clip names it for each of its tags, files
and checkpoint folders of c4c hold it, and the line of it is a part of every fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from c4c.core.device import to_device
from c4c.core.errors import C4CError
from c4c.core.files import parse_json
from c4c.core.fit import Fit
from c4c.core.schema import parse

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_LONGEST = 2000  # characters of what a file says of its preprocessing


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What is done to a frame before the vision tower; by default as OpenAI's CLIP has it.

    Attributes:
        height: of the tower's input, in pixels.
        width: likewise.
        resize: ``shortest``, ``longest`` or ``squash``; see ``c4c.core.fit.Fit``.
        interpolation: ``bicubic`` or ``bilinear``.
        mean: of each channel, taken off values from 0 to 1.
        std: of each channel, divided by afterwards.
        fill: level of the border that ``longest`` pads with, 0 to 255.
    """

    height: int
    width: int
    resize: str = "shortest"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    fill: int = 0

    def __post_init__(self) -> None:
        Fit(self.height, self.width, self.resize, self.interpolation)
        if (len(self.mean), len(self.std)) != (3, 3) or min(self.std) <= 0:
            raise C4CError(f"mean {self.mean} and deviation {self.std}: expected three each, > 0.")
        if not 0 <= self.fill <= 255:
            raise C4CError(f"fill is {self.fill}, expected 0 to 255.")

    @property
    def fit(self) -> Fit:
        """Size and way of resizing.

        What is not square and covers the input is resized bicubically by open_clip, whatever
        its configuration says.
        """
        odd = self.resize == "shortest" and self.height != self.width
        return Fit(self.height, self.width, self.resize, "bicubic" if odd else self.interpolation)

    def __str__(self) -> str:
        """All of it as one line, for the fingerprint; CLIP's own as it ever was."""
        size = f"{self.height}x{self.width}"
        ways = {
            "shortest": f"resize {self.height if self.height == self.width else size} "
            f"{self.fit.interpolation} antialias, crop",
            "longest": f"longest {size} {self.interpolation} antialias, pad {self.fill}",
            "squash": f"squash {size} {self.interpolation} antialias",
        }
        mean = ",".join(f"{value:.6f}" for value in self.mean)
        std = ",".join(f"{value:.6f}" for value in self.std)
        return f"{ways[self.resize]}, {mean} / {std}"

    def resized(self, pixels: Tensor) -> Tensor:
        """Resize, and crop or pad, still in bytes.

        Args:
            pixels: uint8 [n, H, W, 3].

        Returns:
            uint8 [n, 3, height, width].
        """
        from torchvision.transforms.v2 import functional as F

        images = pixels.permute(0, 3, 1, 2)
        fit = self.fit
        if tuple(images.shape[2:]) == fit.shape:
            return images
        target = fit.scaled(*images.shape[2:])
        if tuple(images.shape[2:]) != target:
            images = F.resize(images, list(target), F.InterpolationMode(fit.interpolation))
        if fit.resize == "longest":
            spare = fit.width - target[1], fit.height - target[0]
            before, after = [one // 2 for one in spare], [(one + 1) // 2 for one in spare]
            images = F.pad(images, before + after, fill=float(self.fill))
        elif target != fit.shape:
            images = F.center_crop(images, list(fit.shape))
        return images

    def normalised(self, images: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Bytes [n, 3, H, W] to floats of mean 0 and deviation 1 in the training data."""
        scaled = to_device(images, device).float().div_(255)
        mean = torch.tensor(self.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=device).view(1, 3, 1, 1)
        return scaled.sub_(mean).div_(std).to(dtype)

    def to_text(self) -> str:
        """As files of weights hold it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Preprocessing:
        """What a file of weights says, which may be anything.

        Raises:
            C4CError: it is no preprocessing.
        """
        if len(text) > _LONGEST:
            raise C4CError("its preprocessing is far too long.")
        return parse(cls, parse_json(text, "its preprocessing"), "its preprocessing")

    @classmethod
    def of_open_clip(
        cls, size: int | tuple[int, int], settings: Mapping[str, Any]
    ) -> Preprocessing:
        """As open_clip's ``preprocess_cfg`` says, for a tower of that input size.

        Raises:
            C4CError: it says something that c4c does not know.
        """
        height, width = size if isinstance(size, (tuple, list)) else (size, size)
        return cls(
            height,
            width,
            settings.get("resize_mode") or "shortest",
            settings.get("interpolation") or "bicubic",
            tuple(settings.get("mean") or CLIP_MEAN),
            tuple(settings.get("std") or CLIP_STD),
            settings.get("fill_color") or 0,
        )


def tag_settings(name: str, tag: str) -> dict[str, Any]:
    """What open_clip knows of the preprocessing of a tag.

    Raises:
        C4CError: the model has no such tag.
    """
    import open_clip

    found: dict[str, Any] = open_clip.get_pretrained_cfg(name, tag)
    if not found:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise C4CError(f"--preprocess: {name} has no tag '{tag}'. Tags: {tags}.")
    return found


def default_tag(name: str) -> str | None:
    """The tag whose preprocessing weights of unknown origin get: that of most, else the first.

    open_clip says nothing of a model without its weights; its tags mostly agree.
    """
    import open_clip

    tags: list[str] = open_clip.list_pretrained_tags_by_model(name)
    lines = [str(Preprocessing.of_open_clip(1, tag_settings(name, tag))) for tag in tags]
    return tags[lines.index(max(lines, key=lines.count))] if tags else None
