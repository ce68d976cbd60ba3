"""``c4c extract --refresh`` redoes what newer rules of decoding concern, and nothing else."""

import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner

from c4c.cache.open import Cache
from c4c.cache.shard import STATUS, make_shard
from c4c.cache.stored import read_shard, write_shard
from c4c.cli.app import group
from c4c.extract.video.request import Request
from c4c.extract.video.rules import RULES, Extracted, review

Change = Callable[[bytes], bytes]


def film(
    path: Path,
    codec: str = "libx264",
    aspect: Fraction = Fraction(1),
    still: bool = False,
    change: Change = bytes,
) -> None:
    """Four seconds of grain, after a still in a track of its own if wished."""
    with av.open(str(path), "w") as file:
        streams: list[Any] = [file.add_stream(codec, rate=8) for _ in range(1 + still)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 8)
            stream.codec_context.sample_aspect_ratio = aspect
        for number in range(32):
            drawn = np.random.default_rng(number).integers(0, 250, (48, 64, 3), np.uint8)
            for stream in streams if number == 0 else streams[-1:]:
                picture = av.VideoFrame.from_ndarray(drawn, format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, 8)
                file.mux(stream.encode(picture))
        for stream in streams:
            file.mux(stream.encode())
    path.write_bytes(change(path.read_bytes()))


def mirrored(data: bytes) -> bytes:
    at = data.index(b"tkhd") + 44
    return (
        data[:at] + struct.pack(">9i", -65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30) + data[at + 36 :]
    )


FILMS: dict[str, dict[str, Any]] = {
    "aspect.mp4": {"aspect": Fraction(64, 45)},
    "cut.avi": {"codec": "mpeg4", "change": lambda data: data[: len(data) * 8 // 10]},
    "mirror.mp4": {"change": mirrored},
    "other.mkv": {},
    "plain.mp4": {},
    "track.mp4": {"still": True},
}
# Why each is extracted again; the others stay.
REASONS = {"aspect": "aspect ratio", "cut": "length", "mirror": "mirror", "track": "track"}
IDS = [name.partition(".")[0] for name in FILMS]


def extract(videos: Path, cache: Path, *options: str) -> str:
    done = CliRunner().invoke(
        group,
        ["extract", "--dataset", "folder", "--root", str(videos), "--cache", str(cache),
         "--backbone", "tiny", "--device", "cpu", "--workers", "1", "--shard-clips", "1",
         *options],
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refresh")
    (folder / "videos").mkdir()
    for name, settings in FILMS.items():
        film(folder / "videos" / name, **settings)
    extract(folder / "videos", folder / "cache")
    return folder


@pytest.fixture
def aged(made: Path, tmp_path: Path) -> Path:
    """The same cache as rules 1 left it: rows of other frames where newer rules concern a clip."""
    cache = Path(shutil.copytree(made / "cache", tmp_path / "cache"))
    owner = Cache.open(cache).owner
    for path in sorted((cache / "shards").rglob("clips/*.h5")):
        shard = read_shard(path)
        [name] = shard.texts["ids"]
        assert shard.rules == RULES
        rows, times, status = shard.row(0), shard.seconds(0), STATUS[shard.status[0]]
        if name in REASONS:
            rows = rows[: 1 if name == "track" else None] + np.float16(1)
            times, status = times[: len(rows)], "ok"
        texts = {"ids": [name], "messages": [""]}
        old = make_shard(
            "clips", [np.array(rows)], [np.array(times)], [status], texts, rows.shape[1]
        )
        path.unlink()
        write_shard(path, old, owner)
        assert read_shard(path, owner).rules == 1
    return cache


def features(cache: Path) -> dict[str, bytes]:
    clips = Cache.open(cache).clips()
    return {name: clips.read(row)[0].tobytes() for row, name in enumerate(clips.ids)}


def clip_shards(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.rglob("clips/*.h5")}


@pytest.mark.shows("extract", "--refresh")
def test_what_newer_rules_concern_is_redone_and_the_rest_stays(aged: Path, made: Path) -> None:
    before, shards = features(aged), clip_shards(aged)
    assert {name for name in before if before[name] != features(made / "cache")[name]} == set(
        REASONS
    )
    extract(made / "videos", aged)
    assert features(aged) == before  # without the option nothing is looked at
    words = extract(made / "videos", aged, "--refresh")
    assert "newer rules of decoding concern 4 of 6 clips" in words
    # Of a still there was one frame: another track, and another length.
    assert all(f"{why} {1 + (why == 'length')}" in words for why in REASONS.values())
    assert features(aged) == features(made / "cache")
    assert all(path.read_bytes() == data for path, data in shards.items())
    assert len(clip_shards(aged)) == len(shards) + len(REASONS)
    cache = Cache.open(aged)
    [manifest] = cache.manifests.values()
    rules = {
        part.ids[0]: read_shard(manifest.shard_path(cache.path, part, "clips")).rules
        for part in manifest.parts
    }
    assert rules == {name: RULES if name in REASONS else 1 for name in IDS}


def test_what_was_redone_is_not_redone_again(aged: Path, made: Path) -> None:
    extract(made / "videos", aged, "--refresh")
    shards = clip_shards(aged)
    words = extract(made / "videos", aged, "--refresh")
    assert "newer rules of decoding change nothing in 2 clips" in words
    assert clip_shards(aged) == shards


def test_compaction_keeps_the_rules_of_each_clip_apart(aged: Path, made: Path) -> None:
    extract(made / "videos", aged, "--refresh")
    done = CliRunner().invoke(group, ["cache", "compact", str(aged)])
    assert done.exit_code == 0, done.output
    assert features(aged) == features(made / "cache")
    rules = {
        name: shard.rules
        for shard in map(read_shard, clip_shards(aged))
        for name in shard.texts["ids"]
    }
    assert rules == {name: RULES if name in REASONS else 1 for name in IDS}


def test_a_video_that_cannot_be_looked_at_is_left_alone(tmp_path: Path) -> None:
    gone = Extracted("x", str(tmp_path / "gone.mp4"), times=(0.0,))
    assert review(gone, Request()).status == "failed"


def test_the_summary_names_partial_clips_and_counts_hdr(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    film(tmp_path / "videos" / "cut.avi", **FILMS["cut.avi"])
    film(tmp_path / "videos" / "plain.mp4")
    with av.open(str(tmp_path / "videos" / "hlg.mp4"), "w") as file:
        stream: Any = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.color_trc = 18
        for _ in range(8):
            grey = np.full((48, 64, 3), 99, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(stream.encode())
    words = extract(tmp_path / "videos", tmp_path / "cache")
    assert "  cut: partial: " in words
    assert "  HDR taken as SDR: 1 of 3 clips (first 'hlg')" in words
    assert "plain" not in words
