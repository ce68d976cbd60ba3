"""Videos that are merely odd: all of their frames, each at its time, and ``ok``."""

import struct
import unicodedata
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from c4c.core.records import Clip
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request

EIGHTHS = [n / 8 for n in range(24)]
UNEVEN = [0, 0.1, 0.9, 1.05, 1.8, 2.5, 2.51, 2.9]
HDR = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
NO_SHIFT = {"avoid_negative_ts": "disabled"}
# File, what makes it, and the second whose colour is on display at 0, 1, 2, … seconds.
ODD: dict[str, tuple[dict[str, Any], list[int]]] = {
    "one frame.mp4": ({"times": [0]}, [0]),
    "uneven.mp4": ({"times": UNEVEN, "base": 1000}, [0, 0, 1, 2]),
    "uneven.mkv": ({"times": UNEVEN, "base": 1000}, [0, 0, 1, 2]),
    "uneven.webm": ({"times": UNEVEN, "base": 1000, "codec": "libvpx-vp9"}, [0, 0, 1, 2]),
    "hdr.mp4": ({"codec": "libx265", "pixel": "yuv420p10le",
                 "options": {"x265-params": HDR}}, [0, 1, 2]),
    "one pixel.mp4": ({"pixel": "yuv444p", "size": (1, 1)}, [0, 1, 2]),
    "one line.mkv": ({"codec": "ffv1", "pixel": "bgr0", "size": (333, 1)}, [0, 1, 2]),
    "av1.mp4": ({"codec": "libsvtav1"}, [0, 1, 2]),
    "gif.gif": ({"codec": "gif", "pixel": "rgb8"}, [0, 1, 2, 2]),
    "gif named.mp4": ({"codec": "gif", "pixel": "rgb8", "kind": "gif"}, [0, 1, 2, 2]),
    "late.ts": ({"times": [5 + t for t in EIGHTHS]}, [1, 2, 3]),
    "late.mkv": ({"times": [5 + t for t in EIGHTHS], "base": 1000}, [1, 2, 3]),
    "late.webm": ({"times": [5 + t for t in EIGHTHS], "base": 1000,
                   "codec": "libvpx-vp9"}, [1, 2, 3]),
    "late.flv": ({"times": [5 + t for t in EIGHTHS], "base": 1000, "codec": "flv"}, [1, 2, 3]),
    "early.mp4": ({"times": [t - 1 for t in EIGHTHS],
                   "container": NO_SHIFT | {"use_editlist": "0"}}, [-1, 0, 1]),
    "early.ts": ({"times": [t - 1 for t in EIGHTHS], "container": NO_SHIFT}, [-1, 0, 1]),
    "no times.mp4": ({"kind": "h264", "times": [n / 8 for n in range(32)]}, [0, 3]),
    "no duration.mkv": ({"container": {"live": "1"}}, [0, 1, 2]),
    "pieces.mp4": ({"container": {"movflags": "frag_keyframe+empty_moov"}}, [0, 1, 2]),
    "fast.mp4": ({"times": [n / 1e6 for n in range(24)], "base": 1_000_000}, [0]),
    "fields.ts": ({"codec": "mpeg2video", "options": {"flags": "+ildct+ilme", "g": "4"},
                    "times": [n / 25 for n in range(75)], "base": 25, "rate": 25}, [0, 1, 2]),
    "fields.mp4": ({"options": {"x264-params": "tff=1"}}, [0, 1, 2]),
    "deep.mov": ({"codec": "prores_ks", "pixel": "yuv422p10le"}, [0, 1, 2]),
    "old.wmv": ({"codec": "wmv2", "kind": "asf"}, [0, 1, 2]),
    "😀.mp4": ({}, [0, 1, 2]),
    unicodedata.normalize("NFD", "café.mp4"): ({}, [0, 1, 2]),
    b"\xff\xfe.mp4".decode("utf-8", "surrogateescape"): ({}, [0, 1, 2]),
    "file:x.mp4": ({}, [0, 1, 2]),
    "concat:a|b.mp4": ({}, [0, 1, 2]),
}  # fmt: skip


def mean_colours(films: Any, path: Path, request: Request | None = None) -> tuple[str, Any]:
    done = decode_clip(Clip("x", str(path)), request)
    assert done.message.startswith("HDR") or done.message == "" or done.status != "ok"
    return done.status, done.frames


@pytest.mark.parametrize("name", list(ODD), ids=ascii)
def test_frames_are_those_on_display(name: str, films: Any) -> None:
    settings, seconds = ODD[name]
    status, frames = mean_colours(films, films.make(name, **{"kind": kind(name), **settings}))
    assert status == "ok"
    assert frames.times.tolist() == list(range(len(seconds)))
    assert films.shows(frames.pixels, seconds)


def kind(name: str) -> str | None:
    """The container, for names that say nothing to the muxer."""
    return {"mp4": "mp4", "mkv": "matroska", "ts": "mpegts"}.get(name.rpartition(".")[2])


def test_a_title_that_is_not_utf8_is_no_matter(films: Any) -> None:
    films.make("titled.mp4", container={"movflags": "faststart"})
    path = films.edit(
        "titled.mp4", "latin.mp4", lambda data: data.replace(b"Lavf", b"\xe9\xff\xfe\x80")
    )
    assert path.read_bytes() != (films.root / "titled.mp4").read_bytes()
    status, frames = mean_colours(films, path)
    assert (status, films.shows(frames.pixels, [0, 1, 2])) == ("ok", True)


def test_the_time_between_frames_may_be_hours(films: Any) -> None:
    path = films.make("hours.mp4", times=[0, 1, 3601, 7202, 10803], base=100, options={"bf": "0"})
    status, frames = mean_colours(films, path, Request(max_frames=4))
    assert (status, frames.times.tolist()) == ("ok", [0, 3601, 7202, 10803])
    assert films.shows(frames.pixels, range(4))


def test_a_size_that_changes_in_mid_stream_is_brought_to_the_first(films: Any) -> None:
    def part(name: str, size: tuple[int, int], start: float) -> bytes:
        settings = {"options": {"g": "4", "bf": "0"}, "kind": "mpegts"}
        times = [start + t for t in EIGHTHS]
        return bytes(films.make(name, size=size, times=times, **settings).read_bytes())

    path = films.root / "sizes.ts"
    path.write_bytes(part("small.ts", (64, 48), 0) + part("large.ts", (128, 96), 3))
    status, frames = mean_colours(films, path)
    assert status in ("ok", "partial")  # the joint of such a file looks like a loss
    assert frames.pixels.shape == (6, 48, 64, 3)
    assert films.shows(frames.pixels, range(6))


def test_time_stamps_that_begin_anew_go_on(films: Any) -> None:
    """Two recordings in one file; what the container says of its length covers one."""
    whole = films.make("part.ts", options={"g": "4"}).read_bytes()
    path = films.root / "twice.ts"
    path.write_bytes(whole * 2)
    status, frames = mean_colours(films, path)
    assert status in ("ok", "partial")
    assert films.shows(frames.pixels, [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(("rate", "seconds"), [((0, 0), [0, 1, 2]), ((1, 1_000_000), [2])])
def test_a_frame_rate_that_is_none(rate: tuple[int, int], seconds: list[int], films: Any) -> None:
    films.make("rate.avi", "mpeg4")

    def change(data: bytearray) -> None:
        at = data.index(b"strh") + 28
        data[at : at + 8] = struct.pack("<II", *rate)

    status, frames = mean_colours(films, films.edit("rate.avi", "no rate.avi", change))
    assert status == "ok"
    assert films.shows(frames.pixels, seconds)


def streams(path: Path, films: Any, cover: bool) -> Path:
    """Two video streams: the first is cover art, or the one to be taken."""
    with av.open(str(path), "w") as file:
        first: Any = file.add_stream("mjpeg" if cover else "libx264", rate=8)
        first.width, first.height = 64, 48
        first.pix_fmt = "yuvj420p" if cover else "yuv420p"
        if cover:
            first.disposition = av.stream.Disposition.attached_pic
        second: Any = file.add_stream("libx264", rate=8)
        second.width, second.height, second.pix_fmt = 32, 32, "yuv420p"
        for number, stamp in enumerate(EIGHTHS):
            for stream in (first, second):
                if stream is first and cover and number:
                    continue
                shift = 0 if (stream is second) == cover else 2
                flat = np.full((stream.height, stream.width, 3),
                               films.colour(int(stamp) + shift), np.uint8)  # fmt: skip
                frame = av.VideoFrame.from_ndarray(flat, format="rgb24")
                frame.pts = number
                file.mux(stream.encode(frame))
        for stream in (first, second):
            file.mux(stream.encode())
    return path


@pytest.mark.parametrize("cover", [False, True])
def test_of_several_streams_the_first_that_is_no_cover(cover: bool, films: Any) -> None:
    path = streams(films.root / f"two {cover}.mp4", films, cover)
    status, frames = mean_colours(films, path)
    assert status == "ok"
    assert frames.pixels.shape[1:3] == ((32, 32) if cover else (48, 64))
    assert films.shows(frames.pixels, [0, 1, 2])


def test_vp9_is_turned_as_its_container_says(films: Any) -> None:
    """Its strict decoder is not told; the rotation is looked up."""

    def corner(time: float) -> Any:
        drawn = np.zeros((48, 64, 3), np.uint8)
        drawn[:24, :32] = 250
        return drawn

    films.make("lying.mp4", "libvpx-vp9", draw=corner)

    def turn(data: bytearray) -> None:
        at = data.index(b"tkhd") + 44
        one = 0x10000
        data[at : at + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 0x40000000)

    status, frames = mean_colours(films, films.edit("lying.mp4", "turned.mp4", turn))
    assert status == "ok"
    assert frames.pixels.shape[1:3] == (64, 48)
    assert frames.pixels[0, :30, 26:].mean() > 230
    assert frames.pixels[0, :30, :22].mean() < 20


def test_hours_at_a_low_rate_are_no_matter_of_hours(films: Any) -> None:
    path = films.make("day.mp4", times=range(0, 86_400, 10), base=1, size=(16, 16),
                      options={"preset": "ultrafast", "g": "50"})  # fmt: skip
    [(_, done)] = decode_many([Clip("x", str(path))], Request(max_frames=12), deadline=30)
    assert (done.status, len(done.frames)) == ("ok", 12)
