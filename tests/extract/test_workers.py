"""Decoder processes hand frames over in pieces: the same frames, in bounded memory."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import spawn
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from c4c.core.errors import C4CError
from c4c.core.records import Clip
from c4c.extract.backbone.encoder import Encoder
from c4c.extract.backbone.load import load_backbone
from c4c.extract.video import worker
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.link import SLOT, SLOTS
from c4c.extract.video.pool import Ended, Piece, decode_many, decode_pieces
from c4c.extract.video.request import Request


def video(path: Path, frames: int, width: int = 640, height: int = 480) -> Clip:
    """A video of one frame a second, a key frame every ten."""
    draw = np.random.default_rng(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        coarse = draw.integers(0, 256, (12, 16, 3), np.uint8)
        for number in range(frames):
            shown = av.VideoFrame.from_ndarray(np.roll(coarse, number, 1), format="rgb24")
            for packet in stream.encode(shown.reformat(width, height)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return Clip(path.stem, str(path))


LONG = 3 * SLOTS * (SLOT // (640 * 480 * 3))  # frames that fill the shared memory three times


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return video(tmp_path_factory.mktemp("long") / "long.mp4", LONG)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return video(tmp_path_factory.mktemp("short") / "short.mp4", 3)


@pytest.fixture
def child(decoders: Callable[..., list[psutil.Process]]) -> Callable[[], int]:
    """Gives the decoder process."""

    def only() -> int:
        (process,) = decoders()
        return int(process.pid)

    return only


@pytest.mark.parametrize("count", [1, 3])
def test_pieces_put_together_are_what_decoding_here_gives(
    tmp_path: Path, long: Clip, short: Clip, count: int
) -> None:
    wide = video(tmp_path / "wide.mp4", 3, 1280, 720)  # a frame is more than a slot
    clips = [short, wide, Clip("gone", "/nowhere.mp4"), long, short, wide]
    found = list(decode_many(clips, Request(), count))
    assert [place for place, _ in found] == list(range(6))
    for clip, (_, done) in zip(clips, found, strict=True):
        here = decode_clip(clip, Request())
        assert (done.status, done.message) == (here.status, here.message)
        assert np.array_equal(done.frames.pixels, here.frames.pixels)
        assert np.array_equal(done.frames.times, here.frames.times)


def test_waiting_for_a_slow_clip_can_be_ended_at_once(long: Clip, child: Callable[[], int]) -> None:
    enough = threading.Event()

    def between() -> None:
        if enough.is_set():
            raise InterruptedError

    with contextlib.closing(decode_pieces([long], Request(), 1, 60.0, between)) as parts:
        next(parts)
        os.kill(child(), signal.SIGSTOP)  # a clip that takes for ever
        threading.Timer(0.7, enough.set).start()
        began = time.monotonic()
        with pytest.raises(InterruptedError):
            list(parts)
        assert time.monotonic() - began < 10


@pytest.mark.slow
def test_a_clip_is_not_late_because_nobody_takes_its_frames(long: Clip, short: Clip) -> None:
    with contextlib.closing(decode_pieces([long, short], Request(), deadline=20.0)) as parts:
        first = next(parts)
        time.sleep(21)
        rest = list(parts)
    assert isinstance(first, Piece)
    assert [part.status for part in rest if isinstance(part, Ended)] == ["ok", "ok"]


def test_a_clip_ahead_takes_no_more_memory_than_its_process_shares(
    long: Clip, child: Callable[[], int]
) -> None:
    """It stands still when its slots are full, and goes on when they are wanted."""
    times, last = 0, 0.0
    with contextlib.closing(decode_pieces([long, long], Request(), 1)) as parts:
        next(parts)
        still = cpu_when_still(child())
        for part in parts:
            if isinstance(part, Ended):
                times, last = times + len(part.times), cpu(child())
    assert times == 2 * LONG
    assert last - still > 0.05  # most was decoded later


def cpu_when_still(pid: int) -> float:
    """Seconds that a process has computed, once it computes no more."""
    before = -1.0
    while (now := cpu(pid)) > before:
        before = now
        time.sleep(1)
    return now


def cpu(pid: int) -> float:
    """Seconds that a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_process_that_dies_over_a_clip_voids_what_it_gave(
    long: Clip, short: Clip, child: Callable[[], int]
) -> None:
    with contextlib.closing(decode_pieces([long, short, short], Request(), 1)) as parts:
        assert isinstance(next(parts), Piece)
        os.kill(child(), signal.SIGKILL)
        ends = [part for part in parts if isinstance(part, Ended)]
    assert [end.status for end in ends] == ["failed", "ok", "ok"]
    assert len(ends[0].times) == 0
    assert "died (exit code -9)" in ends[0].message


def test_frames_given_before_a_file_turned_out_damaged_are_void(tmp_path: Path) -> None:
    clip = video(tmp_path / "damaged.mp4", 40)
    data = bytearray(Path(clip.path).read_bytes())
    with av.open(clip.path) as container:
        late = [packet for packet in container.demux(video=0) if packet.pos and packet.size][-8]
        place, size = late.pos, late.size
    data[place : place + size] = bytes(255 for _ in range(size))
    Path(clip.path).write_bytes(data)
    parts = list(decode_pieces([clip], Request()))
    firsts = [part.first for part in parts if isinstance(part, Piece)]
    assert firsts.count(0) == 3  # taken quickly, then all, then what can be trusted
    ((_, done),) = decode_many([clip], Request())
    here = decode_clip(clip, Request())
    assert done.status == here.status != "ok"
    assert np.array_equal(done.frames.pixels, here.frames.pixels)


def test_a_clip_that_is_void_leaves_the_others_features_as_they_are() -> None:
    backbone = load_backbone("tiny", device="cpu")
    size = backbone.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (20, size, size, 3), np.uint8)

    def features(void: bool) -> list[np.ndarray]:
        encoder = Encoder(backbone, 4)
        encoder.add(pixels[:3])
        encoder.end(3)
        if void:
            encoder.add(pixels[9:11])
            encoder.add(pixels[11:20], 2)  # fills batches
            encoder.end(0)
            encoder.add(pixels[12:20])
        encoder.add(pixels[3:6], 0)
        encoder.add(pixels[6:9], 3)
        encoder.end(5)
        assert encoder.frames == 9
        return [row for row in encoder.finish() if len(row)]

    with_it, without = features(True), features(False)
    assert [len(row) for row in without] == [3, 5]
    for mine, theirs in zip(with_it, without, strict=True):
        assert np.array_equal(mine, theirs)


def test_a_process_that_keeps_memory_is_replaced(
    short: Clip, child: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_BLOATED", 1)
    pids = set()
    for _, done in decode_many([short] * 12, Request(), 1):
        assert done.status == "ok"
        pids.add(child())
    assert len(pids) > 1


@pytest.fixture
def no_python() -> Iterator[None]:
    before = spawn.get_executable()
    multiprocessing.set_executable("/bin/false")
    yield
    multiprocessing.set_executable(before)


def test_processes_that_cannot_start_are_no_clips_fault(short: Clip, no_python: None) -> None:
    with pytest.raises(C4CError, match="No process to decode in can be started"):
        list(decode_many([short], Request()))
