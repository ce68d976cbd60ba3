"""``--frame-mode near`` and ``key``: which frames they take, where key frames are known."""

from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from c4c.core.records import Clip
from c4c.extract.video import nearby
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.packets import Unsure
from c4c.extract.video.request import Request

RATE, SECONDS, SIDE = 10, 17, 64
GOPS = (1, 2, 4, 8)


def make(path: Path, keyint: int, options: str = "", encoder: str = "libx264") -> None:
    """A grey level and a bar tell every frame from all others; key frames as often as asked."""
    name = "x264-params" if encoder == "libx264" else "x265-params"
    params = f"keyint={keyint}:min-keyint={keyint}:scenecut=0:bframes=3:log-level=none{options}"
    own = {"preset": "ultrafast", name: params}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=RATE, options=own)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for number in range(SECONDS * RATE):
            pixels = np.full((SIDE, SIDE, 3), 60 + number % 130, np.uint8)
            pixels[:, number % SIDE] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gops")
    for gop in GOPS:
        make(folder / f"{gop}.mp4", gop * RATE)
    make(folder / "open.mp4", 2 * RATE, ":open-gop=1:b-pyramid=normal")
    make(folder / "hevc.mkv", 2 * RATE, ":open-gop=1", "libx265")
    return folder


@cache
def everything(path: Path) -> tuple[dict[float, np.ndarray], list[float]]:
    """All frames by time, and the times of key frames, by a plain loop over PyAV."""
    frames, keys = {}, []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.time is not None
            frames[round(frame.time, 4)] = frame.to_ndarray(format="rgb24")
            if frame.key_frame:
                keys.append(round(frame.time, 4))
    first = min(frames)
    return {t - first: image for t, image in frames.items()}, [t - first for t in keys]


def taken(path: Path, mode: str, start: float = 0.0, end: float | None = None, **more: Any) -> Any:
    """Times and pictures of a stretch; the times on the file's own line."""
    request = Request(mode=mode, **more)
    found = decode_clip(Clip("clip", str(path), start, end), request)
    assert (found.status, found.message) == ("ok", "")
    return (found.frames.times.astype(float) + start).tolist(), found.frames.pixels


def agrees(path: Path, times: list[float], pixels: np.ndarray) -> bool:
    """Whether every picture is the one that an independent decode has at that very time."""
    frames, _ = everything(path)
    known = np.array(list(frames))
    for time, picture in zip(times, pixels, strict=True):
        there = known[np.abs(known - time).argmin()]
        assert abs(there - time) < 1e-3
        assert np.array_equal(frames[there], picture), time
    return True


@pytest.mark.parametrize("name", [*map("{}.mp4".format, GOPS), "open.mp4", "hevc.mkv"])
@pytest.mark.parametrize("mode", ["near", "key"])
@pytest.mark.parametrize("stretch", [(0.0, None), (3.3, None), (4.6, 9.2), (5.1, 5.6)])
def test_each_picture_is_the_one_of_its_time(
    videos: Path, name: str, mode: str, stretch: tuple[float, float | None]
) -> None:
    times, pixels = taken(videos / name, mode, *stretch, fps=2)
    assert agrees(videos / name, times, pixels)
    assert times == sorted(set(times))
    assert min(times) >= stretch[0] - 0.1  # the frame on display at the start, at the earliest
    assert max(times) < (stretch[1] or SECONDS)


@pytest.mark.parametrize("gop", GOPS)
def test_near_is_within_half_a_step_of_every_wanted_second(videos: Path, gop: int) -> None:
    times, _ = taken(videos / f"{gop}.mp4", "near")
    assert len(times) == SECONDS
    assert np.abs(np.array(times) - np.arange(SECONDS)).max() <= 0.5
    keys = everything(videos / f"{gop}.mp4")[1]
    assert set(range(0, SECONDS, gop)) == {round(time) for time in keys}
    assert {round(time, 3) for time in keys} <= {round(time, 3) for time in times}


@pytest.mark.parametrize("gop", GOPS)
def test_key_takes_key_frames_and_what_long_gaps_need(videos: Path, gop: int) -> None:
    times, _ = taken(videos / f"{gop}.mp4", "key")
    assert np.allclose(times, range(0, SECONDS, min(gop, 4)))
    sparse, _ = taken(videos / f"{gop}.mp4", "key", max_gap=10.0)
    assert np.allclose(sparse, everything(videos / f"{gop}.mp4")[1])
    dense, _ = taken(videos / f"{gop}.mp4", "key", max_gap=1.5)
    assert np.diff([*dense, SECONDS]).max() <= 1.5 + 1 / RATE


def test_key_takes_no_more_than_the_frame_rate_asks_for(videos: Path) -> None:
    times, _ = taken(videos / "1.mp4", "key", fps=0.25)
    assert np.allclose(times, [0, 4, 8, 12, 16])
    assert np.allclose(taken(videos / "1.mp4", "key", max_frames=3)[0], [0, 8, 16], atol=1)


def test_a_stretch_without_a_key_frame_gives_the_one_at_its_start(videos: Path) -> None:
    assert np.allclose(taken(videos / "8.mp4", "key", 2.0, 5.0)[0], [2.0])
    assert np.allclose(taken(videos / "8.mp4", "key", 1.0, 7.0)[0], [1.0, 4.0])


def test_what_is_decoded_is_what_the_mode_says(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key frames alone are decoded alone; near leaves out the tails, and frames on the way."""
    sent: list[int] = []
    decoded = nearby._Nearby._decoded

    class Counting:
        def __init__(self, codec: Any) -> None:
            object.__setattr__(self, "codec", codec)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.codec, name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(self.codec, name, value)

        def decode(self, packet: Any) -> Any:
            frames = self.codec.decode(packet)
            sent.extend(frame.pts for frame in frames)
            return frames

    def counted(self: Any, *rest: Any) -> Any:
        if not isinstance(self.codec, Counting):
            self.codec = Counting(self.codec)
        yield from decoded(self, *rest)

    monkeypatch.setattr(nearby._Nearby, "_decoded", counted)
    counts = {}
    for mode in ("near", "key"):
        for gop in GOPS:
            sent.clear()
            times, _ = taken(videos / f"{gop}.mp4", mode)
            counts[mode, gop] = len(sent), len(times)
    assert all(counts["key", gop] == (-(-SECONDS // gop),) * 2 for gop in (1, 2, 4))
    assert counts["near", 1] == (SECONDS, SECONDS)
    assert counts["near", 2][0] < 0.4 * SECONDS * RATE
    assert counts["near", 8][0] < 0.75 * SECONDS * RATE


@pytest.mark.parametrize("mode", ["near", "key"])
def test_a_damaged_or_cut_file_is_decoded_whole(videos: Path, tmp_path: Path, mode: str) -> None:
    """What time stamps do not promise is left to exact frames, with its status and words."""
    data = bytearray((videos / "2.mp4").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    (tmp_path / "bad.mp4").write_bytes(data)
    clip = Clip("clip", str(tmp_path / "bad.mp4"))
    mine, exact = (decode_clip(clip, Request(mode=one)) for one in (mode, "exact"))
    assert mine.status == exact.status == "partial"
    assert mine.message == exact.message
    assert np.array_equal(mine.frames.pixels, exact.frames.pixels)


def test_time_stamps_that_promise_nothing_are_not_trusted(
    videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsure(*_: Any) -> None:
        raise Unsure

    monkeypatch.setattr(nearby._Nearby, "first", unsure)
    assert taken(videos / "8.mp4", "key")[0] == list(range(SECONDS))
