"""What reaches the backbone: bounded frames, and whole batches."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from c4c.core.errors import C4CError
from c4c.core.records import Clip
from c4c.extract.backbone.encoder import Encoder
from c4c.extract.backbone.load import load_backbone
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.request import Request


def noise(path: Path, width: int, height: int, frames: int = 4) -> Clip:
    """A video whose frames compress badly."""
    draw = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        for _ in range(frames):
            picture = draw.integers(0, 256, (height, width, 3), np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return Clip("x", str(path))


@pytest.mark.parametrize(("width", "height"), [(320, 240), (90, 301), (33, 47)])
def test_the_child_crops_as_the_backbone_does(tmp_path: Path, width: int, height: int) -> None:
    backbone = load_backbone("tiny", device="cpu")
    size = backbone.image_size
    clip = noise(tmp_path / "n.mp4", width, height)
    cropped = decode_clip(clip, Request(size=size)).frames.pixels
    assert cropped.shape[1:3] == ((size, size) if min(width, height) >= size else (height, width))
    whole = decode_clip(clip, Request()).frames.pixels
    fitted = [backbone.fit(torch.from_numpy(np.array(one))).float() for one in (cropped, whole)]
    assert (fitted[0] - fitted[1]).mean().abs() < 1  # levels: scaled by other code, same place


def test_features_do_not_depend_on_how_full_a_batch_is() -> None:
    backbone = load_backbone("tiny", device="cpu")
    size = backbone.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (5, size, size, 3), np.uint8)
    found = []
    for count in (1, 3, 5):
        encoder = Encoder(backbone, 4)
        encoder.add(pixels[:count])
        encoder.end(count)
        found.append(encoder.finish()[0])
    assert np.array_equal(found[0], found[2][:1])
    assert np.array_equal(found[1], found[2][:3])


def test_out_of_memory_halves_the_batch_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("tiny", device="cpu")
    size = backbone.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (21, size, size, 3), np.uint8)
    encode, tried = backbone.encode_frames, []

    def small(images: torch.Tensor, hidden: bool = False) -> torch.Tensor:
        tried.append(len(images))
        if len(images) > most:
            raise torch.cuda.OutOfMemoryError
        return encode(images, hidden)

    def features() -> np.ndarray:
        encoder = Encoder(backbone, 8)
        encoder.add(pixels)
        encoder.end(len(pixels))
        return encoder.finish()[0]

    whole = features().astype(np.float32)
    monkeypatch.setattr(backbone, "encode_frames", small)
    most = 3
    parts = features().astype(np.float32)
    assert parts == pytest.approx(whole, abs=0.02)
    assert [count for count in tried if count > most] == [8, 4]  # not tried again at full size
    most = 0
    with pytest.raises(C4CError, match="no memory for one frame"):
        features()
