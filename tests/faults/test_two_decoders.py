"""PyAV and decord give the same frames; where they do not, it is shown which is right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c4c.core.records import Clip
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.request import Request

decord = pytest.importorskip("decord")

OPEN = {"x264-params": "b-pyramid=normal:bframes=3:open-gop=1:keyint=10"}
QUIET = {"x265-params": "log-level=none"}
CONSTANT: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": OPEN},
    "h264.mkv": {"options": OPEN},
    "h264.avi": {"options": OPEN},
    "hevc.mp4": {"codec": "libx265", "options": QUIET},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "part2.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "part2.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "jpeg.avi": {"codec": "mjpeg", "pixel": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pixel": "yuv422p10le"},
    "lossless.mkv": {"codec": "ffv1", "pixel": "yuv444p"},
    "ten bit.mp4": {"pixel": "yuv420p10le"},
    "ten bit hevc.mp4": {"codec": "libx265", "pixel": "yuv420p10le", "options": QUIET},
    "ten bit 422.mkv": {"pixel": "yuv422p10le"},
    "odd.mkv": {"pixel": "yuv444p", "size": (61, 43)},
    "late.mp4": {"times": [5 + n / 8 for n in range(24)]},
}


def moving(films: Any, size: tuple[int, int]) -> Any:
    """A picture in which a bar moves, so that every frame differs from its neighbours."""

    def draw(time: float) -> Any:
        drawn = np.empty((size[1], size[0], 3), np.uint8)
        drawn[:] = films.colour(int(time))
        left = int(time * 8) * 5 % (size[0] - 12)
        drawn[:, left : left + 12] = 250
        return drawn

    return draw


@pytest.mark.parametrize("name", list(CONSTANT))
def test_both_decoders_give_the_same_frames(name: str, films: Any) -> None:
    """The conversions to RGB differ by a level or two, and at edges of colour by some more."""
    settings = CONSTANT[name]
    draw = moving(films, settings.get("size", (64, 48)))
    clip = Clip("x", str(films.make(name, **settings, draw=draw)))
    ours, theirs = (
        decode_clip(clip, Request(fps=8, decoder=decoder)) for decoder in ("pyav", "decord")
    )
    assert (ours.status, theirs.status) == ("ok", "ok")
    assert ours.frames.times.tolist() == theirs.frames.times.tolist() == [n / 8 for n in range(24)]
    pictures = ours.frames.pixels.astype(int)
    apart = np.abs(pictures - theirs.frames.pixels).mean((1, 2, 3))
    neighbours = np.abs(np.diff(pictures, axis=0)).mean((1, 2, 3))
    assert apart.max() < 4 < neighbours.min() / 2


def test_of_a_transport_stream_pyav_gives_the_right_frames(films: Any) -> None:
    """Decord counts from the clock's zero, where this stream begins later: refused for it."""
    path = films.make("clock.ts", times=[5 + n / 8 for n in range(24)], options={"g": "8"})
    ours = decode_clip(Clip("x", str(path)))
    assert (ours.status, films.shows(ours.frames.pixels, [5, 6, 7])) == ("ok", True)
    refused = decode_clip(Clip("x", str(path)), Request(decoder="decord"))
    assert refused.status == "failed" and "use --decoder pyav" in refused.message
    theirs = decord.VideoReader(str(path)).get_batch([0, 8, 16]).asnumpy()
    assert not films.shows(theirs, [5, 6, 7])


def test_what_pyav_finds_damaged_is_not_ok_for_decord(films: Any) -> None:
    draw = np.random.default_rng(0)
    path = films.make("whole.mp4", options={"g": "4"}, container={"movflags": "faststart"},
                      draw=lambda time: draw.integers(0, 255, (48, 64, 3), np.uint8))  # fmt: skip
    spoiled = films.edit("whole.mp4", "spoiled.mp4", lambda data: data[: len(data) * 3 // 5])
    done = decode_clip(Clip("x", str(spoiled)), Request(decoder="decord"))
    assert done.status in ("partial", "corrupt", "failed")
    late = decode_clip(Clip("x", str(path), 50.0), Request(decoder="decord"))
    assert late.status in ("failed", "partial")
    assert len(late.frames) == 0


def test_decord_sees_no_list_of_other_files(films: Any) -> None:
    Path(films.root / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{films.root}/a.mp4'\n")
    done = decode_clip(Clip("x", str(films.root / "list.mp4")), Request(decoder="decord"))
    assert (done.status, "whitelist" in done.message) == ("failed", True)
