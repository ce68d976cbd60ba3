"""Pictures equal to the one before are encoded once, and the progress line says how it goes."""

from pathlib import Path

import numpy as np
import pytest

from c4c.core.progress import Update, heard_by
from c4c.core.records import Clip
from c4c.extract import pace
from c4c.extract.backbone.encoder import Encoder
from c4c.extract.backbone.load import load_backbone
from c4c.extract.config import ExtractConfig
from c4c.extract.pace import Pace
from c4c.extract.part import extract_part, seconds_of
from c4c.extract.sharing import SharingEncoder

SIDE = 64


def pictures(numbers: list[int]) -> np.ndarray:
    """A picture for each number, equal where these are."""
    kinds = np.random.default_rng(1).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    return kinds[numbers]


def test_shared_features_are_those_of_encoding_every_picture() -> None:
    backbone = load_backbone("tiny")
    every, own = Encoder(backbone, 4), SharingEncoder(backbone, 4)
    for encoder in (every, own):
        encoder.add(pictures([0, 0, 1]))
        encoder.add(pictures([1, 1, 2, 0]), 3)  # goes on with the last of before
        encoder.end(7)
        encoder.add(pictures([0, 0, 3]))  # another clip's first is never shared
        encoder.end(2)
        encoder.add(pictures([5, 5]))  # void: given anew in another way
        encoder.add(pictures([6, 6, 6]), 0)
        encoder.end(3)
        encoder.add(pictures([4, 4]))
        encoder.end(0)
    assert (own.shared, every.shared) == (6, 0)
    assert own.ended == 0 + 4 + 2 + 1
    for mine, theirs in zip(own.finish(), every.finish(), strict=True):
        assert mine.shape == theirs.shape
        assert np.allclose(mine, theirs, atol=2e-3)


def test_the_line_says_real_time_what_is_left_and_what_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    lines: list[Update] = []
    with heard_by(lines.append), Pace("extract all", 10, 2) as progress:
        with progress.waiting():
            now[0] += 8
        with progress.encoding():
            now[0] += 2
        progress.ended(7200.0, 100, 30)
        with progress.encoding():
            now[0] += 10
        progress.ended(7200.0, 100)
    first, second = lines[0].text, lines[1].text
    assert "10 frames/s · 30 pictures shared · 720.0x real time" in first
    assert "14 h 00 m of video left · limited by decoding" in first
    assert "720.0x real time · 12 h 00 m of video left · limited by the backbone" in second


def test_what_limits_is_told_with_the_last_batch_of_a_part(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    with heard_by([].append), Pace("extract all", 1) as progress:
        with progress.waiting():
            now[0] += 2
        progress.ended(60.0, 4)
        assert "2 frames/s · 30.0x real time · limited by decoding" in progress.line()
        with progress.finishing():
            now[0] += 8
        assert "0 frames/s · 6.0x real time · limited by the backbone" in progress.line()


@pytest.mark.parametrize(
    ("end", "times", "seconds"),
    [(9.0, [], 7.0), (None, [], 0.0), (None, [0.0], 2.0), (None, [0.0, 1.5, 3.0], 4.5)],
)
def test_a_clip_is_as_long_as_its_span_or_its_frames(
    end: float | None, times: list[float], seconds: float
) -> None:
    assert seconds_of(Clip("a", "a", 2.0, end), np.array(times, np.float32), 0.5) == seconds


def still(path: Path) -> None:
    """Ten seconds of a slide, then ten of another, a key frame each second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"g": "5", "qp": "0"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv444p"
        for number in range(100):
            pixels = np.full((SIDE, SIDE, 3), 90 if number < 50 else 160, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@pytest.mark.parametrize(("mode", "encoded"), [("exact", 20), ("near", 2), ("key", 2)])
def test_slides_are_encoded_once_but_where_frames_are_exact(
    tmp_path: Path, mode: str, encoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    still(tmp_path / "slides.mp4")
    frames: list[int] = []
    ended = Pace.ended

    def counted(self: Pace, seconds: float, own: int, shared: int = 0) -> None:
        frames.extend([own, shared])
        ended(self, seconds, own, shared)

    monkeypatch.setattr(Pace, "ended", counted)
    config = ExtractConfig(dataset="folder", backbone="tiny", frame_mode=mode, workers=1)
    backbone = load_backbone("tiny")
    shard = extract_part([Clip("a", str(tmp_path / "slides.mp4"))], backbone, config)
    assert frames == [encoded, 20 - encoded]
    assert shard.row(0).shape[0] == 20
    assert np.array_equal(shard.row(0)[0], shard.row(0)[9])
    assert not np.array_equal(shard.row(0)[9], shard.row(0)[10])
