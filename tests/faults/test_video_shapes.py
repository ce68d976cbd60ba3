"""Pictures as players show them: square pixels, upright, mirrored where the file says so."""

import itertools
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from c4c.core.records import Clip
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.request import Request

WIDE = Fraction(64, 45)  # of a pixel, in a PAL film of 16:9
ONE = 0x10000  # in a display matrix
# The eight ways to lay a rectangle on a screen: a, b, c, d of the display matrix.
LAID = [
    (a * (1 - swap), b * swap, c * swap, d * (1 - swap))
    for swap in (0, 1)
    for a, d in itertools.product((1, -1), repeat=2)
    for b, c in [(a, d)]
]


def corners() -> Any:
    """A picture no part of which is another's mirror image, [48, 64]."""
    drawn = np.full((48, 64, 3), 40, np.uint8)
    drawn[:24, :32] = 220  # top left
    drawn[24:, :16] = 130  # a little of the bottom left
    return drawn


def shown(picture: Any, laid: tuple[int, int, int, int]) -> Any:
    """A picture where the matrix puts each of its pixels, by definition."""
    a, b, c, d = laid
    height, width = picture.shape[:2]
    ys, xs = np.mgrid[:height, :width]
    xs, ys = 2 * xs - width + 1, 2 * ys - height + 1  # from the middle
    left, top = a * xs + c * ys, b * xs + d * ys
    there = np.zeros((width, height, 3) if b else picture.shape, picture.dtype)
    there[(top + there.shape[0] - 1) // 2, (left + there.shape[1] - 1) // 2] = picture
    return there


def laid_out(films: Any, source: str, name: str, laid: tuple[int, int, int, int]) -> Path:
    """A copy of an MP4 with another display matrix."""
    a, b, c, d = (ONE * one for one in laid)

    def change(data: bytearray) -> None:
        at = data.index(b"tkhd") + 44
        data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)

    path: Path = films.edit(source, name, change)
    return path


def first(path: Path, size: int | None = None) -> Any:
    done = decode_clip(Clip("x", str(path)), Request(size=size))
    assert (done.status, done.message) == ("ok", "")
    return done.frames.pixels[0].astype(np.int16)


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "mpeg4", "libsvtav1"])
def test_pictures_lie_as_the_display_matrix_says(codec: str, films: Any) -> None:
    flat = f"{codec}.mp4"
    films.make(flat, codec, draw=lambda time: corners(), times=[0, 0.125])
    plain = first(films.root / flat)
    assert np.abs(plain - corners().astype(np.int16)).mean() < 12
    for laid in LAID:
        path = laid_out(films, flat, f"{codec} {laid}.mp4", laid)
        assert np.array_equal(first(path), shown(plain, laid)), laid


def test_a_matrix_of_zeros_says_nothing(films: Any) -> None:
    films.make("zero.mp4", draw=lambda time: corners(), times=[0, 0.125])
    path = laid_out(films, "zero.mp4", "zeros.mp4", (0, 0, 0, 0))
    assert np.array_equal(first(path), first(films.root / "zero.mp4"))


def disc(width: int, height: int) -> Any:
    """A white disc on black, as wide as it is high once it is shown; off the middle."""
    ys, xs = np.mgrid[:height, :width]
    apart = ((xs + 0.5) / width * 16 - 9) ** 2 + ((ys + 0.5) / height * 9 - 4) ** 2
    return np.repeat(np.where(apart < 9, 255, 0).astype(np.uint8)[..., None], 3, 2)


def film(
    path: Path, codec: str, size: tuple[int, int], aspect: Fraction | None, kind: str | None = None
) -> Path:
    with av.open(str(path), "w", format=kind) as file:
        stream: Any = file.add_stream(codec, rate=25, options={"qmin": "2", "qmax": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(25):
            frame = av.VideoFrame.from_ndarray(disc(*size), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def box(picture: Any) -> tuple[int, int, int, int]:
    """Left, top, width and height of what is white."""
    ys, xs = np.nonzero(picture.mean(2) > 127)
    return int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1


@pytest.fixture(scope="module")
def twin(films: Any) -> Path:
    """The same film in square pixels."""
    return film(films.root / "twin.mp4", "libx264", (1024, 576), None)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.mkv", "libx264"),
     ("a.ts", "mpeg2video"), ("b.ts", "libx264"), ("a.mpg", "mpeg2video"), ("a.avi", "mpeg4"),
     ("a.vob", "mpeg2video")],
)  # fmt: skip
def test_pixels_become_square(name: str, codec: str, films: Any, twin: Path) -> None:
    path = film(films.root / f"wide {name}", codec, (720, 576), WIDE)
    assert first(path).shape[:2] == (576, 1024)
    ours, theirs = box(first(path, 224)), box(first(twin, 224))
    assert np.abs(np.subtract(ours, theirs)).max() <= 2, (ours, theirs)


@pytest.mark.parametrize("aspect", [Fraction(1, 2), Fraction(8, 9), Fraction(2)])
def test_pixels_of_any_shape_become_square(aspect: Fraction, films: Any) -> None:
    size = (round(1024 / aspect) // 2 * 2, 576)
    path = film(films.root / f"{aspect.numerator}.mp4", "libx264", size, aspect)
    left, top, width, height = box(first(path, 224))
    assert abs(width - height) <= 2
    assert abs(first(path).shape[1] - 1024) <= 1


def test_square_pixels_are_turned_with_the_picture(films: Any, twin: Path) -> None:
    film(films.root / "lying.mp4", "libx264", (720, 576), WIDE)
    for laid in [(0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0)]:
        path = laid_out(films, "lying.mp4", f"turned {laid}.mp4", laid)
        assert first(path).shape[:2] == (1024, 576)
        turned = shown(first(twin, None), laid)
        assert np.abs(first(path) - turned).mean() < 4, laid


def test_a_small_picture_becomes_square_too(films: Any) -> None:
    path = film(films.root / "small.mp4", "libx264", (90, 72), WIDE)
    assert first(path, 224).shape[:2] == (72, 128)


def test_a_ratio_that_cannot_be_meant_is_not_taken(films: Any) -> None:
    path = film(films.root / "absurd.mp4", "libx264", (64, 48), Fraction(200))
    assert first(path).shape[:2] == (48, 64)


def test_too_many_square_pixels_are_refused(films: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(films.root / "broad.mp4", "libx264", (90, 72), WIDE)
    monkeypatch.setattr("c4c.extract.video.opening.MAX_PIXELS", 90 * 72)
    done = decode_clip(Clip("x", str(path)))
    assert (done.status, "claims 128 x 72 pixels" in done.message) == ("failed", True)


@pytest.mark.parametrize(
    ("name", "codec", "pixel", "transfer", "words"),
    [
        ("pq.mp4", "libx265", "yuv420p10le", 16, "HDR (PQ) taken as SDR"),
        ("hlg.mkv", "libx265", "yuv420p10le", 18, "HDR (HLG) taken as SDR"),
        ("pq.webm", "libsvtav1", "yuv420p10le", 16, "HDR (PQ) taken as SDR"),
        ("hlg.mov", "libx264", "yuv420p", 18, "HDR (HLG) taken as SDR"),
        ("sdr.mp4", "libx265", "yuv420p10le", 1, ""),
        ("deep.mkv", "libx265", "yuv420p10le", 14, ""),
    ],
)
def test_hdr_is_said(
    name: str, codec: str, pixel: str, transfer: int, words: str, films: Any
) -> None:
    path = films.root / name
    with av.open(str(path), "w") as file:
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream: Any = file.add_stream(codec, rate=4, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, 9
        stream.codec_context.colorspace = 9
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(corners(), format="rgb24")
            frame = frame.reformat(format=pixel)
            frame.color_trc, frame.color_primaries, frame.colorspace = transfer, 9, 9
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    done = decode_clip(Clip("x", str(path)))
    assert (done.status, done.message) == ("ok", words)
