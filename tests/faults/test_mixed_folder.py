"""A folder as users have it: good files of many kinds, bad ones among them."""

import contextlib
import json
import os
import signal
import struct
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
import warm

from c4c.cache.inspect import damage
from c4c.cache.open import Cache
from c4c.core.records import Clip
from c4c.extract.config import ExtractConfig
from c4c.extract.pipeline import run_extract
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request

GOOD = {
    "h264.mp4": ("libx264", "yuv420p", 64, 48),
    "vp9.webm": ("libvpx-vp9", "yuv420p", 64, 48),
    "vp9 named.mp4": ("libvpx-vp9", "yuv420p", 64, 48),
    "odd.mkv": ("libx264", "yuv444p", 61, 43),
    "stream.ts": ("libx264", "yuv420p", 64, 48),
    "old.avi": ("mpeg4", "yuv420p", 64, 48),
    "ünï ☂.mp4": ("libx264", "yuv420p", 64, 48),
    "-dash %03d a:b.mp4": ("libx264", "yuv420p", 64, 48),
    "new\nline.mp4": ("libx264", "yuv420p", 64, 48),
    "ten bit.mp4": ("libx264", "yuv420p10le", 64, 48),
}


def colour(second: int) -> tuple[int, int, int]:
    """What second ``second`` of a fixture looks like."""
    return [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)][second % 4]


def encode(
    path: Path, codec: str, pixel: str, width: int, height: int, seconds: int = 3, fps: int = 8
) -> None:
    """A video whose every second has a colour of its own."""
    kind = "matroska" if path.suffix == ".mkv" else None
    kind = "mp4" if path.suffix == ".mp4" else kind
    with av.open("file:" + str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel
        stream.time_base = Fraction(1, fps)
        for number in range(seconds * fps):
            picture = np.empty((height, width, 3), np.uint8)
            picture[:] = colour(number // fps)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def silence(path: Path) -> None:
    """A file with sound and no picture."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(8):
            sound = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
            frame.rate = 16000
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mixed") / "videos"
    root.mkdir()
    for name, settings in GOOD.items():
        encode(root / name, *settings)
    whole = (root / "h264.mp4").read_bytes()
    bad = root / "bad"
    bad.mkdir()
    (bad / "no moov.mp4").write_bytes(whole[: len(whole) // 2])
    (bad / "empty.mp4").write_bytes(b"")
    (bad / "page.mp4").write_text("<!doctype html><title>404</title>" * 50)
    (bad / "zeros.mp4").write_bytes(bytes(5000))
    (bad / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    silence(bad / "sound.mp4")
    target = root / "h264.mp4"
    (bad / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{target}'\n")
    (bad / "hls.mp4").write_text(f"#EXTM3U\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n")
    os.mkfifo(bad / "fifo.mp4")
    (bad / "dangling.mp4").symlink_to(root / "gone.mp4")
    return root


def extract(root: Path, cache: Path, *more: str, timeout: float = 240) -> tuple[int, str]:
    command = [*warm.C4C, "extract", "--dataset", "folder", "--root", str(root)]
    command += ["--cache", str(cache), "--backbone", "tiny", "--workers", "1", *more]
    done = warm.run(command, timeout=timeout)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def extracted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str]:
    cache = tmp_path_factory.mktemp("cache") / "mixed"
    code, words = extract(folder, cache, "--shard-clips", "4")
    return cache, code, words


def test_the_bad_ones_are_named_and_the_rest_is_done(
    folder: Path, extracted: tuple[Path, int, str]
) -> None:
    cache, code, words = extracted
    assert code == 3
    clips = Cache.open(cache).clips()
    assert len(clips) == len(GOOD)
    assert list(clips.lengths) == [3] * len(GOOD)
    bad = {path.stem for path in (folder / "bad").iterdir()}
    assert {failure.clip_id for failure in clips.failed} == bad
    for name in bad:
        assert f"{name}: failed: " in words or f"{name}: corrupt: " in words


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("name", list(GOOD))
def test_frames_are_those_on_display_at_each_second(folder: Path, name: str, decoder: str) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
        if name == "stream.ts":
            pytest.skip("TS is refused for decord; test_two_decoders.py shows why")
    done = decode_clip(Clip("x", str(folder / name)), Request(decoder=decoder))
    assert (done.status, done.message) == ("ok", "")
    assert done.frames.times.tolist() == [0, 1, 2]
    for second, picture in enumerate(done.frames.pixels):
        assert np.abs(picture.mean((0, 1)) - colour(second)).max() < 25


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["clockwise", "half", "counterclockwise"],
)
def test_pictures_stand_upright(matrix: tuple[int, ...], turns: int, tmp_path: Path) -> None:
    """A phone's portrait video: the track's display matrix (a, b, c, d) turns the stored picture.

    ISO 14496-12: x' = a x + c y, y' = b x + d y, with y downwards; so (0, 1, -1, 0) takes the
    right edge to the bottom, a quarter clockwise.
    """
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, 40:] = (250, 0, 0)
    picture[:12] = (0, 0, 250)
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for _ in range(8):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    data = bytearray(path.read_bytes())
    at = bytes(data).index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes
    a, b, c, d = (value * 0x10000 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)
    done = decode_clip(Clip("x", str(path)), Request())
    upright = np.rot90(picture, turns)
    assert done.status == "ok"
    assert done.frames.pixels[0].shape == upright.shape
    assert np.abs(done.frames.pixels[0].astype(int) - upright).mean() < 12


def test_parts_rates_and_caps_of_a_video(folder: Path) -> None:
    path = str(folder / "h264.mp4")
    part = decode_clip(Clip("x", path, 1.0, 2.5), Request(fps=2))
    assert part.frames.times.tolist() == [0, 0.5, 1]
    assert np.abs(part.frames.pixels[0].mean((0, 1)) - colour(1)).max() < 25
    for how, seconds in {"head": [0, 1], "tail": [1, 2], "uniform": [0, 2]}.items():
        few = decode_clip(Clip("x", path), Request(max_frames=2, sampling=how))
        assert few.frames.times.tolist() == seconds
    late = decode_clip(Clip("x", path, 50.0), Request())
    assert late.status in ("failed", "partial")
    assert len(late.frames) == 0


def noisy(path: Path, codec: str = "mpeg4") -> Path:
    """Three seconds that compress badly."""
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(24):
            noise = generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.ts", "libx264")])
def test_damage_that_the_decoder_notices_is_never_ok(name: str, codec: str, tmp_path: Path) -> None:
    noisy(tmp_path / name, codec)
    whole = bytearray((tmp_path / name).read_bytes())
    for place in range(len(whole) // 2, len(whole) // 2 + 800):
        whole[place] ^= 0x5A
    (tmp_path / name).write_bytes(whole)
    done = decode_clip(Clip("x", str(tmp_path / name)), Request())
    assert done.status in ("partial", "corrupt")
    assert "corrupt" in done.message


def test_a_decoder_that_hangs_is_killed_and_the_next_clips_are_done(
    folder: Path, decoders: Callable[..., list[psutil.Process]]
) -> None:
    clips = [Clip(str(number), str(folder / "h264.mp4")) for number in range(40)]
    decoded = decode_many(clips, Request(), workers=1, deadline=10)
    assert next(decoded)[1].status == "ok"
    (child,) = decoders()
    os.kill(child.pid, signal.SIGSTOP)  # hangs over whatever it is given next
    rest = [done for _, done in decoded]
    failed = [done.message for done in rest if done.status != "ok"]
    assert len(rest) == 39
    assert len(failed) == 1
    assert "deadline" in failed[0]


def test_a_decoder_that_dies_fails_its_clip_alone(
    folder: Path, decoders: Callable[..., list[psutil.Process]]
) -> None:
    clips = [Clip(str(number), str(folder / "h264.mp4")) for number in range(40)]
    decoded = decode_many(clips, Request(), workers=1)
    next(decoded)
    (child,) = decoders()
    os.kill(child.pid, signal.SIGKILL)
    rest = [done for _, done in decoded]
    failed = [done.message for done in rest if done.status != "ok"]
    assert len(rest) == 39
    assert len(failed) == 1
    assert "died" in failed[0]


def features(cache: Path) -> dict[str, bytes]:
    clips = Cache.open(cache).clips()
    return {name: clips.read(place)[0].tobytes() for place, name in enumerate(clips.ids)}


def test_killed_at_any_moment_a_rerun_ends_with_the_same_features(
    folder: Path, extracted: tuple[Path, int, str], tmp_path: Path
) -> None:
    cache = tmp_path / "killed"
    command = [*warm.C4C, "extract", "--dataset", "folder"]
    command += ["--root", str(folder), "--cache", str(cache), "--backbone", "tiny"]
    command += ["--workers", "1", "--shard-clips", "4"]
    for wait in (0.2, 0.5, 0.8, 1.2):
        process = warm.Started(command, session=True)
        time.sleep(wait)
        with contextlib.suppress(ProcessLookupError):  # a fast machine has ended it
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    code, _ = extract(folder, cache, "--shard-clips", "4")
    assert code == 3
    assert features(cache) == features(extracted[0])


def test_slices_on_several_machines_make_the_same_cache(
    folder: Path, extracted: tuple[Path, int, str], tmp_path: Path
) -> None:
    cache = tmp_path / "sliced"
    code, words = extract(folder, cache, "--shard-clips", "4", "--slice", "0/2")
    assert code == 3
    assert "other slices" in words
    assert extract(folder, cache, "--shard-clips", "4", "--slice", "1/2")[0] == 3
    assert features(cache) == features(extracted[0])


def test_a_new_video_is_added_without_extracting_the_others(
    folder: Path, extracted: tuple[Path, int, str], tmp_path: Path
) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    for name in ("h264.mp4", "odd.mkv"):
        (root / name).write_bytes((folder / name).read_bytes())
    assert extract(root, tmp_path / "cache")[0] == 0
    shards = sorted((tmp_path / "cache").rglob("*.h5"))
    times = [path.stat().st_mtime_ns for path in shards]
    (root / "another.avi").write_bytes((folder / "old.avi").read_bytes())
    assert extract(root, tmp_path / "cache")[0] == 0
    assert [path.stat().st_mtime_ns for path in shards] == times
    assert Cache.open(tmp_path / "cache").clips().ids == ("another", "h264", "odd")
    command = [*warm.C4C, "cache", "info", str(tmp_path / "cache"), "--json"]
    done = warm.run(command, check=True)
    assert json.loads(done.stdout)["splits"]["all"]["clips"] == 3


def test_a_video_that_was_replaced_under_its_name_is_extracted_again_and_it_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, cache = tmp_path / "videos", tmp_path / "cache"
    root.mkdir()
    for name in ("h264.mp4", "odd.mkv"):
        (root / name).write_bytes((folder / name).read_bytes())
    config = ExtractConfig(dataset="folder", root=root, cache=cache, backbone="tiny", workers=1)
    run_extract(config)
    before = features(cache)
    os.utime(root / "odd.mkv", (0, 0))  # the clock decides nothing
    (root / "h264.mp4").write_bytes((folder / "vp9 named.mp4").read_bytes())
    capsys.readouterr()
    run_extract(config)
    assert "the videos of 1 clips were replaced (first 'h264')" in capsys.readouterr().err
    after = features(cache)
    assert after["odd"] == before["odd"]
    assert after["h264"] != before["h264"]
    assert list(damage(cache)) == []
    shards = sorted(cache.rglob("*.h5"))
    run_extract(config)
    assert "were replaced" not in capsys.readouterr().err
    assert sorted(cache.rglob("*.h5")) == shards


def test_failures_are_tried_again_on_request_and_only_they(folder: Path, tmp_path: Path) -> None:
    """The failed file is mended in its middle alone, which nobody looks at unasked."""
    root, cache = tmp_path / "videos", tmp_path / "cache"
    root.mkdir()
    (root / "good.mp4").write_bytes((folder / "h264.mp4").read_bytes())
    whole = noisy(root / "later.mp4", "libx264").read_bytes()
    (root / "later.mp4").write_bytes(whole[:4096] + bytes(len(whole) - 8192) + whole[-4096:])
    more = ("--shard-clips", "1")
    assert extract(root, cache, *more)[0] == 3
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("*.h5")}
    (root / "later.mp4").write_bytes(whole)
    assert extract(root, cache, *more)[0] == 3  # not asked: the record of the failure stands
    assert extract(root, cache, *more, "--retry-failed")[0] == 0
    assert Cache.open(cache).clips().ids == ("good", "later")
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert list(damage(cache)) == []
    # Cut short before its new shard was written, the retry is repeated by the same command.
    newest = max(cache.rglob("*.h5"), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()
    assert extract(root, cache, *more, "--retry-failed")[0] == 0
    (cache / "shards" / "all" / "clips" / "part-1-ab.h5").write_bytes(b"x")
    assert any("in no manifest" in line for line in damage(cache))
