"""The 3d patch embedding."""

import pytest
import torch

from c4c.core.errors import C4CError
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.patch3d import add_patch3d, encode_video, has_patch3d


@pytest.fixture
def tiny() -> Backbone:
    return load_backbone("tiny", "none", device="cpu")


def clips(frames: int = 4) -> torch.Tensor:
    return torch.randn(2, frames, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_it_starts_as_the_2d_embedding(tiny: Backbone) -> None:
    video = clips()
    flat = tiny.encode_video(video)
    add_patch3d(tiny.model.visual)
    assert has_patch3d(tiny.model.visual)
    torch.testing.assert_close(tiny.encode_video(video), flat, rtol=1e-4, atol=1e-5)
    hidden = tiny.encode_video(video, hidden=True)
    torch.testing.assert_close(hidden @ tiny.model.visual.proj, flat, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_frame_sees_its_neighbours_and_nothing_beyond_the_clip(tiny: Backbone) -> None:
    add_patch3d(tiny.model.visual)
    torch.nn.init.normal_(tiny.model.visual.conv2.weight, std=0.02)
    video, lengths = clips(), torch.tensor([4, 2])
    before = tiny.encode_video(video, lengths)
    video[1, 2:] = float("nan")
    torch.testing.assert_close(tiny.encode_video(video, lengths)[1, :2], before[1, :2])
    alone = tiny.encode_video(video[1:, :2])
    torch.testing.assert_close(alone[0], before[1, :2], rtol=1e-4, atol=1e-5)
    video[0, 3] += 1
    changed = (tiny.encode_video(video, lengths)[0] - before[0]).abs().amax(-1) > 1e-4
    assert changed.tolist() == [False, False, True, True]


def test_gradients_reach_the_kernel_and_the_tower_is_left_as_it_was(tiny: Backbone) -> None:
    visual = tiny.model.visual
    add_patch3d(visual)
    first = visual.conv1
    encode_video(visual, clips(2)).sum().backward()
    assert visual.conv2.weight.grad.abs().sum() > 0
    assert visual.conv1 is first
    kernel = visual.conv2
    add_patch3d(visual)
    assert visual.conv2 is kernel


def test_what_has_no_3d_patch_says_so(tiny: Backbone) -> None:
    with pytest.raises(C4CError, match="no 3d patch"):
        encode_video(tiny.model.visual, clips())
    with pytest.raises(C4CError, match="vision transformer"):
        add_patch3d(torch.nn.Linear(2, 2))
    add_patch3d(tiny.model.visual)
    with pytest.raises(C4CError, match="encode_video"):
        tiny.encode_frames(clips()[0])
