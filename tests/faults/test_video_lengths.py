"""How long a video is, and when its pictures are shown, whatever else the file holds."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from c4c.core.records import Clip
from c4c.extract.video import decode
from c4c.extract.video.decode import Decoded, decode_clip
from c4c.extract.video.ending import cut_off
from c4c.extract.video.packets import Unsure
from c4c.extract.video.request import Request

SECONDS = 3
# Container, encoder of the picture, and of the sound that goes on three times as long.
KINDS = {
    "a.mkv": ("libx264", "aac"),
    "a.webm": ("libvpx-vp9", "libopus"),
    "a.flv": ("flv", "libmp3lame"),
    "a.asf": ("wmv2", "wmav2"),
    "a.ogg": ("libvpx", "libopus"),
    "a.mp4": ("libx264", "aac"),
    "a.mov": ("libx264", "aac"),
    "a.ts": ("libx264", "aac"),
    "a.mpg": ("mpeg2video", "mp2"),
}


def with_sound(
    path: Path, films: Any, picture: str, sound: str, late: float = 0.0, long: float = 9.0
) -> Path:
    """Three seconds of colours, 24 frames each, that begin ``late``, under ``long`` seconds."""
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream(picture, rate=24)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = Fraction(1, 24)
        audio: Any = file.add_stream(sound, rate=48000)
        audio.layout, audio.bit_rate = "mono", 64000
        packets: list[Any] = []
        for number in range(24 * SECONDS):
            flat = np.full((48, 64, 3), films.colour(number // 24), np.uint8)
            frame = av.VideoFrame.from_ndarray(flat, format="rgb24")
            frame.pts = number + round(24 * late)
            packets += video.encode(frame)
        packets += video.encode()
        size = audio.codec_context.frame_size or 1152
        for start in range(0, int(48000 * long), size):
            noise = av.AudioFrame(format=audio.codec_context.format.name, layout="mono",
                                  samples=size)  # fmt: skip
            noise.planes[0].update(bytes(noise.planes[0].buffer_size))
            noise.sample_rate, noise.pts = 48000, start
            packets += audio.encode(noise)
        packets += audio.encode()
        for packet in sorted(packets, key=lambda one: float(one.dts * one.time_base)):
            file.mux(packet)
    return path


@pytest.fixture(scope="module")
def sounding(films: Any) -> dict[str, Path]:
    return {name: with_sound(films.root / name, films, *codecs) for name, codecs in KINDS.items()}


def both_ways(clip: Clip, request: Request) -> Decoded:
    """The clip, once it is known that decoding everything gives the same."""

    def unsure(*_: Any) -> Iterator[Any]:
        raise Unsure

    quick = decode_clip(clip, request)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "sparse_frames", unsure)
        sure = decode_clip(clip, request)
    assert (quick.status, quick.message) == (sure.status, sure.message)
    assert np.array_equal(quick.frames.pixels, sure.frames.pixels)
    assert np.array_equal(quick.frames.times, sure.frames.times)
    return quick


@pytest.mark.parametrize("name", list(KINDS))
@pytest.mark.parametrize("most", [None, 3, 4])
def test_sound_that_goes_on_makes_no_video_longer(
    name: str, most: int | None, films: Any, sounding: dict[str, Path]
) -> None:
    done = both_ways(Clip("x", str(sounding[name])), Request(max_frames=most))
    assert (done.status, done.message) == ("ok", "")
    assert done.frames.times.tolist() == [0, 1, 2]
    assert films.shows(done.frames.pixels, [0, 1, 2])


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.flv", "a.asf"])
def test_where_neither_sound_nor_picture_reaches_the_end_the_file_was_cut(
    name: str, films: Any, sounding: dict[str, Path]
) -> None:
    data = sounding[name].read_bytes()
    cut = films.root / f"cut {name}"
    cut.write_bytes(data[: len(data) * 6 // 10])
    done = decode_clip(Clip("x", str(cut)))
    assert (done.status, "ends early" in done.message) == ("partial", True)


@pytest.mark.parametrize(
    ("name", "codec", "share"),
    [("whole.avi", "mpeg4", 0.6), ("whole.avi", "mpeg4", 0.8), ("whole.wmv", "wmv2", 0.6)],
)
def test_a_cut_file_is_as_long_as_its_header_says(
    name: str, codec: str, share: float, films: Any
) -> None:
    draw = np.random.default_rng(0)

    def grain(time: float) -> Any:
        noise = draw.integers(-25, 25, (48, 64, 3)) + films.colour(int(time))
        return noise.astype(np.uint8)

    data = films.make(name, codec, times=[n / 8 for n in range(80)], draw=grain).read_bytes()
    assert decode_clip(Clip("x", str(films.root / name))).status == "ok"
    path = films.root / f"cut {name}"
    path.write_bytes(data[: int(len(data) * share)])
    done = decode_clip(Clip("x", str(path)))
    assert done.status == "partial" and "of 10 frames" in done.message
    assert 0 < len(done.frames) < 10
    assert films.shows(done.frames.pixels, range(len(done.frames)))


# Container, encoder, options of the container; and bytes of what it consists of, as far as a cut
# between two of them leaves no trace.
UNMEASURED = {
    "b.ts": ("libx264", {}, 188),
    "b.m2ts": ("libx264", {"mpegts_m2ts_mode": "1"}, 192),
    "b.mpg": ("mpeg2video", {}, 2048),
    "b.ogg": ("libvpx", {}, 0),
    "b.gif": ("gif", {}, 0),
    "b.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}, 0),
}


@pytest.mark.parametrize("name", list(UNMEASURED))
def test_a_file_that_ends_in_the_middle_of_something_was_cut(name: str, films: Any) -> None:
    codec, options, unit = UNMEASURED[name]
    draw = np.random.default_rng(0)

    def grain(time: float) -> Any:
        return (draw.integers(-25, 25, (48, 64, 3)) + films.colour(int(time))).astype(np.uint8)

    pixel = "rgb8" if codec == "gif" else "yuv420p"
    kind = "mpegts" if unit in (188, 192) else None
    large = {"qmin": "2", "qmax": "2", "b": "2M"} if codec == "mpeg2video" else None
    whole = films.make(
        name, codec, pixel, container=options, kind=kind, draw=grain, base=100, options=large
    )
    data = whole.read_bytes()
    path = films.root / f"cut {name}"
    for size in (len(data), len(data) - 1, len(data) * 8 // 10 + 5, len(data) * 6 // 10 + 3):
        path.write_bytes(data[:size])
        cut = size < len(data) and not (unit and size % unit == 0)
        done = decode_clip(Clip("x", str(path)))
        assert done.status == ("partial" if cut else "ok"), size
        assert ("was cut: it ends within a" in done.message) == cut
        assert 0 < len(done.frames) <= 3 + (codec == "gif")
    # What lies before the cut is whole: the first of many pictures, and a span that ends there.
    first = decode_clip(Clip("x", str(path)), Request(fps=4, max_frames=2, sampling="head"))
    assert (first.status, len(first.frames)) == ("ok", 2)
    assert decode_clip(Clip("x", str(path), 0.0, 1.0)).status == "ok"


def test_ogg_that_ends_between_two_pages_was_cut(films: Any, sounding: dict[str, Path]) -> None:
    data = sounding["a.ogg"].read_bytes()
    path = films.root / "pages.ogg"
    path.write_bytes(data[: data.rindex(b"OggS")])
    done = decode_clip(Clip("x", str(path)))
    assert (done.status, done.message) == (
        "partial",
        "the file was cut: it ends within a stream",
    )


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("mpegts", b"\x47" + bytes(187), ""),  # one packet alone tells nothing
        ("mpegts", (b"\x47" + bytes(187)) * 20, ""),
        ("mpegts", b"xyz" + (b"\x47" + bytes(187)) * 20, ""),  # begins in mid-packet
        ("mpegts", (b"\x47" + bytes(187)) * 20 + b"\x47" + bytes(99), "a packet"),
        ("mpegts", (b"\x47" + bytes(203)) * 20, ""),
        ("mpegts", (b"\x47" + bytes(203)) * 20 + b"\x47" + bytes(190), "a packet"),
        ("mpegts", (b"\x47" + bytes(187)) * 20 + bytes(5000), ""),  # space that was not used
        ("mpeg", b"\0\0\1\xba\x44" + bytes(9) + b"\0\0\1\xe0\0\3abc", ""),
        ("mpeg", b"\0\0\1\xba\x44" + bytes(8) + b"\1\xff\0\0\1\xe0\0\3abc", ""),
        ("mpeg", b"\0\0\1\xba\x21" + bytes(7) + b"\0\0\1\xe0\0\3abc\0\0\1\xb9", ""),
        ("mpeg", b"\0\0\1\xba\x44" + bytes(9) + b"\0\0\1\xe0\0\3ab", "a packet"),
        ("mpeg", b"\0\0\1\xba\x44" + bytes(9) + b"\0\0\1\xe0\0", "a packet"),
        ("mpeg", b"\0\0\1\xba\x44" + bytes(5), "a packet"),
        ("mpeg", b"\0\0\1\xba\x44" + bytes(9) + b"\0\0\1\xe0\0\3abc" + bytes(99), ""),
        ("mov,mp4", b"\0\0\0\x08moof\0\0\0\x09mdatx", ""),
        ("mov,mp4", b"\0\0\0\x08moof\0\0\0\x0amdatx", "a fragment"),
        ("mov,mp4", b"\0\0\0\x08moof\0\0\0\1mdat" + b"\xff" * 8, "a fragment"),
        ("mov,mp4", b"\0\0\0\x08moof\0\0\0\0mdatxyz", ""),  # as far as the file goes
        ("mov,mp4", b"\0\0\0\x08moov\0\0\0\x0amdatx", ""),  # its tables tell what lacks
        ("matroska,webm", b"anything", ""),
    ],
)
def test_what_the_end_of_a_file_tells(kind: str, data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    assert cut_off(str(tmp_path / "x"), kind) == said


def slides(path: Path, films: Any, codec: str, pixel: str, sound: bool = False) -> Path:
    """Pictures at 0, 0.5 and 1 s, the last of which stays for nine seconds."""
    with av.open(str(path), "w") as file:
        video: Any = file.add_stream(codec, rate=2)
        video.width, video.height, video.pix_fmt = 64, 48, pixel
        video.codec_context.time_base = Fraction(1, 100)
        if sound:
            audio: Any = file.add_stream("aac", rate=48000)
            audio.layout = "mono"
        packets: list[Any] = []
        for number in range(3):
            flat = np.full((48, 64, 3), films.colour(number), np.uint8)
            frame = av.VideoFrame.from_ndarray(flat, format="rgb24")
            frame.pts, frame.duration = 50 * number, [50, 50, 900][number]
            packets += video.encode(frame)
        packets += video.encode()
        for packet, ticks in zip(packets, (50, 50, 900), strict=True):
            packet.duration = ticks
            packet.time_base = Fraction(1, 100)
            file.mux(packet)
        for start in range(0, 48000 * 10 if sound else 0, 1024):
            noise = av.AudioFrame(format="fltp", layout="mono", samples=1024)
            noise.planes[0].update(bytes(noise.planes[0].buffer_size))
            noise.sample_rate, noise.pts = 48000, start
            file.mux(audio.encode(noise))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixel", "sound"),
    [
        ("slides.mp4", "libx264", "yuv420p", False),
        ("slides.mov", "libx264", "yuv420p", False),
        ("slides.mkv", "libx264", "yuv420p", False),
        ("slides.webm", "libvpx-vp9", "yuv420p", False),
        ("slides.gif", "gif", "rgb8", False),
        ("sounding slides.mp4", "libx264", "yuv420p", True),
        ("sounding slides.mkv", "libx264", "yuv420p", True),
    ],
)
def test_the_last_picture_stays_as_long_as_the_file_says(
    name: str, codec: str, pixel: str, sound: bool, films: Any
) -> None:
    path = slides(films.root / name, films, codec, pixel, sound)
    done = both_ways(Clip("x", str(path)), Request())
    assert (done.status, done.message) == ("ok", "")
    assert films.shows(done.frames.pixels, [0] + [2] * 9)


def test_a_span_counts_from_where_the_file_begins(films: Any) -> None:
    """As players and ffmpeg count: the sound is two seconds ahead of the picture."""
    for name in ("late.mp4", "late.mkv", "late.ts", "late.mpg"):
        picture, sound = KINDS["a" + name[-4:].replace("e.ts", ".ts")]
        path = str(with_sound(films.root / name, films, picture, sound, late=2.0))
        part = both_ways(Clip("x", path, 3.5, 5.5), Request())
        assert (part.status, part.frames.times.tolist()) == ("ok", [0, 1]), name
        assert films.shows(part.frames.pixels, [1, 2]), name
        early = both_ways(Clip("x", path, 0.5, 4.5), Request())
        assert films.shows(early.frames.pixels, [0, 0, 0, 1]), name
        whole = both_ways(Clip("x", path), Request())
        assert films.shows(whole.frames.pixels, [0, 1, 2]), name


def test_a_span_beyond_the_end_says_so(films: Any) -> None:
    path = str(films.make("short.mp4"))
    part = decode_clip(Clip("x", path, 1.0, 9.0))
    assert part.status == "partial"
    assert part.message == "the span ends at 9 s, the video at 3.00 s"
    assert films.shows(part.frames.pixels, [1, 2])
    for decoder in ("pyav", "decord"):
        late = decode_clip(Clip("x", path, 50.0), Request(decoder=decoder))
        assert late.status == "failed"
        assert late.message == "the span begins at 50 s, the video ends at 3.00 s"
    rounded = decode_clip(Clip("x", path, 1.0, 3.0005))
    assert (rounded.status, rounded.message) == ("ok", "")
