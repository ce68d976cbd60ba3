"""CLIP4Clip's 3d patch embedding: a patch looks at its frame and the ones beside it.

The visual tower stays as it is; a Conv3d beside its Conv2d (under the authors' name,
``visual.conv2``) makes the patches of a whole clip (CLIP4Clip, section 3.2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError

TEMPORAL = 3
NAME = "conv2"


def add_patch3d(visual: Any) -> None:
    """Give an open_clip vision transformer a 3d patch embedding.

    Started by central-frame inflation: the 2d kernel in the middle and zeros around it, so
    that the features are at first those of the 2d tower.

    Args:
        visual: the tower, with ``conv1`` of weight [W, 3, P, P]; it gains ``conv2`` of
            weight [W, 3, 3, P, P]. One that has it already is left alone.

    Raises:
        C4CError: the tower is no vision transformer with a plain patch convolution.
    """
    if has_patch3d(visual):
        return
    flat = getattr(visual, "conv1", None)
    if not isinstance(flat, nn.Conv2d) or flat.bias is not None or not hasattr(visual, "ln_pre"):
        raise C4CError("A 3d patch needs a vision transformer such as ViT-B-32; this is another.")
    size, step = flat.kernel_size, flat.stride
    solid = nn.Conv3d(
        flat.in_channels,
        flat.out_channels,
        (TEMPORAL, size[0], size[1]),
        stride=(1, step[0], step[1]),
        padding=(TEMPORAL // 2, 0, 0),
        bias=False,
    )
    with torch.no_grad():
        solid.weight.zero_()
        solid.weight[:, :, TEMPORAL // 2] = flat.weight
    visual.add_module(NAME, solid.to(flat.weight.device, flat.weight.dtype))


def has_patch3d(visual: Any) -> bool:
    """Whether the tower has a 3d patch embedding."""
    return isinstance(getattr(visual, NAME, None), nn.Conv3d)


def encode_video(visual: Any, video: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Frame features of whole clips, each patch seeing three frames.

    Args:
        visual: a tower that ``add_patch3d`` was called on.
        video: float [B, T, 3, S, S], preprocessed.
        lengths: int64 [B], frames of each clip; what stands beyond is read as black (zeros),
            as before the first frame. ``None``: every frame is one.

    Returns:
        [B, T, D] (vision width instead of D while the tower has no projection), not
        normalised; what stands beyond a clip's length means nothing.

    Raises:
        C4CError: the tower has no 3d patch embedding.
    """
    if not has_patch3d(visual):
        raise C4CError("This backbone has no 3d patch embedding; load one that has, or add it.")
    clips, frames = video.shape[:2]
    if lengths is not None:
        inside = torch.arange(frames, device=video.device) < lengths.to(video.device)[:, None]
        video = torch.where(inside[:, :, None, None, None], video, 0.0)
    patches = visual.conv2(video.transpose(1, 2)).transpose(1, 2).flatten(0, 1)
    # The tower begins with conv1: for this call the patches are already there.
    flat, visual.conv1 = visual.conv1, nn.Identity()
    try:
        features: Tensor = visual(patches)
    finally:
        visual.conv1 = flat
    return features.view(clips, frames, -1)
