"""Frames reach a backbone as open_clip's own transform would hand them over."""

from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from c4c.core.errors import C4CError
from c4c.core.fit import Fit
from c4c.core.records import Clip
from c4c.extract.backbone.preprocessing import Preprocessing, default_tag
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.request import Request

SHAPES = [(108, 192), (301, 90), (63, 63), (480, 270)]
_NAMES = ("mean", "std", "interpolation", "resize_mode")


def configurations() -> Iterator[tuple[str, tuple[int, int], dict[str, Any]]]:
    """Every preprocessing that open_clip's pretrained weights have, each once."""
    seen = set()
    for name, tag in open_clip.list_pretrained():
        size = open_clip.get_model_config(name)["vision_cfg"].get("image_size", 224)
        shape = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
        known = open_clip.get_pretrained_cfg(name, tag)
        settings = {key: known[key] for key in _NAMES if known.get(key) is not None}
        key = (shape, tuple(sorted(settings.items())))
        if key not in seen:
            seen.add(key)
            yield f"{name}/{tag}", shape, settings


# What no weights of today have, and open_clip's transform does all the same.
OTHERS = [
    ("longest", (96, 96), {"resize_mode": "longest", "fill_color": 127}),
    ("longest, wide", (64, 120), {"resize_mode": "longest", "interpolation": "bilinear"}),
    ("shortest, wide", (64, 120), {"resize_mode": "shortest", "interpolation": "bilinear"}),
    ("squash, tall", (120, 64), {"resize_mode": "squash"}),
]


def pictures() -> list[np.ndarray]:
    """Frames of odd shapes, with edges and smooth places."""
    draw = np.random.default_rng(0)
    coarse = [draw.integers(0, 256, (9, 7, 3), dtype=np.uint8) for _ in SHAPES]
    return [
        np.array(Image.fromarray(one).resize(shape[::-1], Image.Resampling.BICUBIC))
        for one, shape in zip(coarse, SHAPES, strict=True)
    ]


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return pictures()


@pytest.mark.parametrize(
    ("shape", "settings"),
    [pytest.param(*rest, id=name) for name, *rest in [*configurations(), *OTHERS]],
)
def test_pixels_are_those_of_open_clips_transform(
    frames: list[np.ndarray], shape: tuple[int, int], settings: dict[str, Any]
) -> None:
    ours = Preprocessing.of_open_clip(shape, settings)
    theirs = image_transform_v2(PreprocessCfg(size=shape, **settings), is_train=False)
    std = torch.tensor(ours.std).view(3, 1, 1) * 255
    for frame in frames:
        pixels = ours.resized(torch.from_numpy(frame)[None])
        found = ours.normalised(pixels, torch.device("cpu"), torch.float32)[0]
        wanted = theirs(Image.fromarray(frame))
        assert found.shape == wanted.shape
        assert ((found - wanted) * std).abs().mean() < 1  # level of 256


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """A wide film of smooth colours, nearly lossless."""
    path = tmp_path_factory.mktemp("film") / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv444p"
        for picture in (pictures()[0], pictures()[3]):
            whole = np.array(Image.fromarray(picture).resize((320, 180)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(whole, format="rgb24")))
        container.mux(stream.encode())
    return Clip("wide", str(path))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("shape", [(64, 64), (90, 60), (200, 200)])
def test_decoders_hand_over_what_the_preprocessing_needs(
    film: Clip, resize: str, interpolation: str, shape: tuple[int, int]
) -> None:
    made = Preprocessing(*shape, resize=resize, interpolation=interpolation)
    handed = decode_clip(film, Request(size=made.fit)).frames.pixels
    whole = decode_clip(film, Request()).frames.pixels
    if resize == "squash" and max(shape) < 180:
        assert handed.shape[1:3] == shape  # all of the frame, not its middle
    ours, wanted = (made.resized(torch.from_numpy(one.copy())).float() for one in (handed, whole))
    assert ours.shape == wanted.shape == (2, 3, *shape)
    assert (ours - wanted).abs().mean() < 1.5  # levels: FFmpeg's filters are not torch's


def test_a_turned_film_is_squashed_upright() -> None:
    from c4c.extract.video.display import Display
    from c4c.extract.video.picture import picture_of

    draw = np.random.default_rng(1).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    flat = np.array(Image.fromarray(draw).resize((200, 100), Image.Resampling.BILINEAR))
    frame = av.VideoFrame.from_ndarray(flat, format="rgb24")
    fit = Fit(80, 40, "squash")
    upright = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(flat)), format="rgb24")
    to_the_left = Display(matrix=(0, -1, 0, 1, 0, 0, 0, 0, 1))
    turned, wanted = picture_of(frame, fit, to_the_left), picture_of(upright, fit, Display())
    assert turned.shape == wanted.shape == (80, 40, 3)
    assert np.abs(turned.astype(int) - wanted).mean() < 1


def test_clips_own_preprocessing_is_told_as_it_ever_was() -> None:
    assert str(Preprocessing(224, 224)) == (
        "resize 224 bicubic antialias, crop, 0.481455,0.457827,0.408211 / "
        "0.268630,0.261303,0.275777"
    )


def test_every_part_of_a_preprocessing_is_in_its_line() -> None:
    squash = Preprocessing(64, 32, "squash")
    others = [
        Preprocessing(64, 32),
        Preprocessing(64, 64, "squash"),
        Preprocessing(64, 32, "squash", "bilinear"),
        Preprocessing(64, 32, "squash", mean=(0.0, 0.0, 0.0)),
        Preprocessing(64, 32, "squash", std=(1.0, 1.0, 1.0)),
        Preprocessing(64, 32, "longest"),
        Preprocessing(64, 32, "longest", fill=9),
    ]
    assert len({str(one) for one in [squash, *others]}) == 8


def test_a_preprocessing_survives_a_file_of_weights() -> None:
    made = Preprocessing(64, 32, "longest", "bilinear", (0.5, 0.5, 0.5), (0.25, 0.5, 1.0), 7)
    assert Preprocessing.from_text(made.to_text()) == made


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"height": 0, "width": 1}', '{"height": 8, "width": 8, "resize": "stretch"}',
     '{"height": 8, "width": 8, "std": [0, 0, 0]}', '{"height": 8, "width": 8, "mean": [1]}',
     '{"height": 8, "width": 8, "fill": 256}', " " * 5000],
)  # fmt: skip
def test_a_preprocessing_that_is_none_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(C4CError) as caught:
        Preprocessing.from_text(text)
    assert "\n" not in str(caught.value)


def test_weights_that_say_nothing_are_taken_to_be_like_most_of_their_model() -> None:
    known = open_clip.get_pretrained_cfg("PE-Core-T-16-384", default_tag("PE-Core-T-16-384"))
    assert (known["interpolation"], known["resize_mode"]) == ("bilinear", "squash")
    assert default_tag("ViT-M-32") is None  # open_clip has no weights of it
