"""Of several video tracks the one that a player shows is taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from c4c.core.records import Clip
from c4c.extract.video.decode import decode_clip

FILM = (96, 64)  # width and height; no other track has them


@dataclass(frozen=True)
class Track:
    """A track of a file: the film's seconds have their colours, others are grey."""

    size: tuple[int, int] = (64, 48)
    frames: int = 24
    disposition: Disposition | None = None
    codec: str = "libx264"

    @property
    def is_film(self) -> bool:
        return self.size == FILM


def write(path: Path, films: Any, tracks: Sequence[Track]) -> Path:
    packets: list[Any] = []
    with av.open(str(path), "w") as file:
        for track in tracks:
            stream: Any = file.add_stream(track.codec, rate=8)
            stream.width, stream.height = track.size
            stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
            stream.codec_context.time_base = Fraction(1, 8)
            if track.disposition is not None:
                stream.disposition = track.disposition
            for number in range(track.frames):
                colour = films.colour(number // 8) if track.is_film else (128, 128, 128)
                flat = np.full((track.size[1], track.size[0], 3), colour, np.uint8)
                frame = av.VideoFrame.from_ndarray(flat, format="rgb24")
                frame.pts = number
                packets += stream.encode(frame)
            packets += stream.encode()
        for packet in sorted(packets, key=lambda one: float(one.dts * one.time_base)):
            file.mux(packet)
    return path


DEFAULT, PLAIN = Disposition.default, Disposition(0)
film = Track(FILM)
CASES: dict[str, list[Track]] = {
    "a still first": [Track(frames=1), film],
    "a large still first, called default": [Track((320, 240), 1, DEFAULT), film],
    "a photograph first": [Track(frames=1, codec="mjpeg"), film],
    "a track first that is not the default": [
        Track((320, 240), disposition=PLAIN), Track(FILM, disposition=DEFAULT),
    ],
    "a smaller track first": [
        Track((64, 48), disposition=DEFAULT), Track(FILM, disposition=DEFAULT),
    ],
    "the default first": [
        Track(FILM, disposition=DEFAULT), Track((320, 240), disposition=PLAIN),
    ],
}  # fmt: skip
MARKED = {
    "a dependent track first": Disposition.dependent,
    "thumbnails first": Disposition.timed_thumbnails,
    "a still image first": Disposition.still_image,
}


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_the_film_is_taken(case: str, suffix: str, films: Any) -> None:
    path = write(films.root / f"{case}.{suffix}", films, CASES[case])
    done = decode_clip(Clip("x", str(path)))
    assert (done.status, done.message) == ("ok", "")
    assert done.frames.pixels.shape[1:3] == FILM[::-1]
    assert films.shows(done.frames.pixels, [0, 1, 2])


@pytest.mark.parametrize("case", list(MARKED))
def test_a_track_that_goes_with_another_is_not_the_film(case: str, films: Any) -> None:
    """Dispositions as the demuxer tells them: few containers can be written with all of them."""
    from c4c.extract.video import tracks

    path = write(films.root / f"{case}.mkv", films, [Track((320, 240)), film])

    class Marked:
        """A stream with another disposition."""

        def __init__(self, stream: Any) -> None:
            self._stream, self.disposition = stream, MARKED[case] | DEFAULT

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    with av.open(str(path)) as file:
        first, second = file.streams.video
        extents = tracks._counted(lambda: av.open(str(path)), [0, 1])
        assert tracks._rank(first, extents[0]) > tracks._rank(second, extents[1])
        assert tracks._rank(Marked(first), extents[0]) < tracks._rank(second, extents[1])


def test_a_longer_track_is_taken_before_a_shorter_one_of_its_size(films: Any) -> None:
    path = write(films.root / "two lengths.mkv", films, [Track(frames=8), Track(frames=24)])
    assert len(decode_clip(Clip("x", str(path))).frames) == 3


def test_of_equal_tracks_the_first_is_taken(films: Any) -> None:
    tracks = [film, Track(FILM)]
    path = write(films.root / "angles.mkv", films, tracks)
    done = decode_clip(Clip("x", str(path)))
    assert films.shows(done.frames.pixels, [0, 1, 2])


@pytest.mark.parametrize("without", [0, 1])
def test_a_program_without_packets_is_passed_over(without: int, films: Any) -> None:
    tracks = [Track(FILM), Track(FILM)]
    data = write(films.root / "programs.ts", films, tracks).read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    empty = 0x100 + without  # libavformat numbers the streams of a transport stream from there
    left = [one for one in packets if int.from_bytes(one[1:3], "big") & 0x1FFF != empty]
    assert 0 < len(left) < len(packets)
    path = films.root / f"empty {without}.ts"
    path.write_bytes(b"".join(left))
    done = decode_clip(Clip("x", str(path)))
    assert (done.status, len(done.frames)) == ("ok", 3), done.message
    assert films.shows(done.frames.pixels, [0, 1, 2])


def test_a_cover_alone_is_no_video(films: Any) -> None:
    path = write(
        films.root / "song.mp4", films, [Track(frames=1, codec="mjpeg",
                                               disposition=Disposition.attached_pic)]
    )  # fmt: skip
    done = decode_clip(Clip("x", str(path)))
    assert (done.status, done.message) == ("failed", "has no video stream")


def test_a_still_alone_is_a_video_of_one_picture(films: Any) -> None:
    path = write(films.root / "still.mp4", films, [Track(FILM, 1)])
    done = decode_clip(Clip("x", str(path)))
    assert (done.status, len(done.frames)) == ("ok", 1)
