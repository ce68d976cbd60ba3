"""Decoding only what is needed gives the very frames that decoding everything gives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from c4c.core.records import Clip
from c4c.extract.video import decode, sparse
from c4c.extract.video.decode import Decoded, decode_clip
from c4c.extract.video.packets import Unsure
from c4c.extract.video.request import Request

RATE, SIDE = 20, 64
OPEN = {"x264-params": "b-pyramid=normal:bframes=4:open-gop=1:keyint=30"}
# File, encoder, its options, seconds, and whether time stamps let anything be left out.
VIDEOS = [
    ("open.mp4", "libx264", OPEN, 8, True),
    ("open.ts", "libx264", OPEN, 8, True),
    ("long.mp4", "libx264", {"preset": "ultrafast", "bf": "2", "g": "100"}, 45, True),
    ("long.mkv", "libx264", {"preset": "ultrafast", "bf": "2", "g": "100"}, 45, True),
    ("intra.mp4", "libx264", {"preset": "ultrafast", "g": "1"}, 8, True),
    ("refresh.mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=40"}, 8, False),
    ("hevc.mp4", "libx265", {"x265-params": "log-level=none:keyint=30:open-gop=1"}, 8, True),
    ("alt.webm", "libvpx-vp9", {"cpu-used": "8", "lag-in-frames": "16", "g": "40"}, 8, True),
    ("part2.mp4", "mpeg4", {"bf": "2", "g": "30"}, 8, True),
    ("fields.mpg", "mpeg2video", {"bf": "2", "g": "15"}, 8, True),
    ("untimed.avi", "libx264", OPEN, 8, False),
]
REQUESTS = [
    Request(fps=fps, max_frames=most)
    for fps, most in ((1.0, None), (1.0, 4), (0.05, None), (7.0, None), (40.0, 50))
]
STRETCHES: list[dict[str, float]] = [{}, {"start": 3.3}, {"start": 2.0, "end": 5.5}]


def make(path: Path, encoder: str, options: dict[str, str], seconds: int) -> None:
    """A picture that moves under grain, so that no two frames are alike."""
    draw = np.random.default_rng(0)
    wide = np.kron(draw.integers(0, 240, (SIDE // 8, 60, 3)), np.ones((8, 8, 1), int))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for number in range(seconds * RATE):
            left = number % (wide.shape[1] - SIDE)
            picture = wide[:, left : left + SIDE] + draw.integers(0, 16, (SIDE, SIDE, 1))
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, encoder, options, seconds, _ in VIDEOS:
        make(folder / name, encoder, options, seconds)
    return folder


def everything(clip: Clip, request: Request) -> Decoded:
    """The clip with nothing left out."""

    def unsure(*_: Any) -> Iterator[Any]:
        raise Unsure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "sparse_frames", unsure)
        return decode_clip(clip, request)


def compare(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Both ways over all requests and stretches; how often nothing had to be decoded again."""
    whole = []

    def watched(*arguments: Any) -> Iterator[Any]:
        yield from sparse.sparse_frames(*arguments)
        whole.append(1)

    monkeypatch.setattr(decode, "sparse_frames", watched)
    for request in REQUESTS:
        for stretch in STRETCHES:
            clip = Clip("clip", str(path), **stretch)
            quick, sure = decode_clip(clip, request), everything(clip, request)
            assert (quick.status, quick.message) == (sure.status, sure.message)
            assert np.array_equal(quick.frames.pixels, sure.frames.pixels), (request, stretch)
            assert np.array_equal(quick.frames.times, sure.frames.times)
    return len(whole)


@pytest.mark.parametrize(("name", "timed"), [(video[0], video[-1]) for video in VIDEOS])
def test_the_frames_are_those_of_decoding_everything(
    name: str, timed: bool, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = compare(videos / name, monkeypatch)
    assert (times == len(REQUESTS) * len(STRETCHES)) == timed


@pytest.mark.parametrize("name", ["open.mp4", "long.mkv"])
def test_a_stretch_copied_out_of_a_file_has_the_same_frames_either_way(
    name: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such files begin in mid-stream: with hidden frames, or with some that lack what is before."""
    target = tmp_path / name
    with av.open(str(videos / name)) as whole, av.open(str(target), "w") as part:
        source = whole.streams.video[0]
        copy: Any = part.add_stream_from_template(source)
        whole.seek(int(3.2 / source.time_base), stream=source)  # type: ignore[operator]
        for packet in whole.demux(source):
            if packet.dts is not None:
                packet.stream = copy
                part.mux(packet)
    compare(target, monkeypatch)


@pytest.mark.parametrize(("name", "share"), [("long.mp4", 0.15), ("open.mp4", 0.75)])
def test_less_is_decoded(
    name: str, share: float, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    take = sparse._Sparse._take

    def counted(self: Any, frame: Any) -> Any:
        decoded.append(frame.pts)
        return take(self, frame)

    monkeypatch.setattr(sparse._Sparse, "_take", counted)
    seconds = next(video[3] for video in VIDEOS if video[0] == name)
    found = decode_clip(Clip("clip", str(videos / name)), Request(fps=1 / 15 if share < 0.5 else 1))
    assert found.status == "ok"
    assert 0 < len(decoded) < share * seconds * RATE
