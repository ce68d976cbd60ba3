"""Cuts: the right pictures from the right second on, with their sound, copied or encoded again."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from c4c.core.errors import C4CError
from c4c.core.records import Clip
from c4c.extract.video.apart import cut, look
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.request import Request

RATE, GROUP = 20, 40  # frames a second; a key frame every two seconds


def picture(number: int) -> np.ndarray:
    """A frame that shows its number in bits, a black or white bar each."""
    bits = [number >> place & 1 for place in range(8)]
    return np.repeat(np.repeat([bits], 48, 0), 8, 1)[..., None].repeat(3, 2).astype(np.uint8) * 255


def write(path: Path, codec: str = "libx264", turned: bool = False, sound: str = "aac") -> Path:
    """Five seconds of numbered frames, with B-frames, and a tone."""
    with av.open(str(path), "w") as made:
        stream: Any = made.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = GROUP
        stream.codec_context.time_base = Fraction(1, RATE)
        if codec == "libx264":
            stream.options = {"x264-params": f"keyint={GROUP}:min-keyint={GROUP}:scenecut=0"}
        if turned:
            stream.set_display_rotation(90)
        tone: Any = made.add_stream(sound, rate=16000, layout="mono") if sound else None
        for number in range(100):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            frame.pts = number
            made.mux(stream.encode(frame))
            if tone:
                times = np.arange(800 * number, 800 * (number + 1)) / 16000
                wave = np.sin(2 * np.pi * 440 * times)[None].astype(np.float32)
                heard = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
                heard.sample_rate, heard.pts = 16000, 800 * number
                made.mux(tone.encode(heard))
        made.mux(stream.encode(None))
        if tone:
            made.mux(tone.encode(None))
    return path


def numbers(path: Path) -> list[int]:
    """Which frames of the original a file shows, in order."""
    with av.open(str(path)) as held:
        greys = [frame.to_ndarray(format="gray") for frame in held.decode(video=0)]
    bars = [grey.reshape(grey.shape[0], 8, -1).mean((0, 2)) > 128 for grey in greys]
    return [sum(int(bit) << place for place, bit in enumerate(row)) for row in bars]


def heard(path: Path) -> float:
    """Seconds of sound."""
    with av.open(str(path)) as held:
        return sum(frame.samples / frame.sample_rate for frame in held.decode(audio=0))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name in ("a.mp4", "a.mkv", "a.ts"):
        write(folder / name)
    write(folder / "a.avi", "mpeg4")
    return folder


@pytest.mark.parametrize(
    ("name", "ending"), [("a.mp4", ".mp4"), ("a.mkv", ".mkv"), ("a.ts", ".mkv")]
)
def test_a_cut_is_a_copy_from_the_key_frame_before(
    films: Path, tmp_path: Path, name: str, ending: str
) -> None:
    made = cut(str(films / name), 3.1, 4.5, tmp_path)
    assert made.name == f"a-3.10-4.50{ending}"
    shown = numbers(made)
    assert shown[:50] == list(range(GROUP, 90))
    assert len(shown) <= 53  # frames that others follow from come before these
    assert heard(made) == pytest.approx(2.5, abs=0.2)
    assert look(str(made)).codec == look(str(films / name)).codec == "h264"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_an_exact_cut_begins_with_the_frame_on_display(
    films: Path, tmp_path: Path, name: str
) -> None:
    path = films / name
    made = cut(str(path), 3.125, 4.5, tmp_path, exact=True)
    shown, every = numbers(made), numbers(path)
    every_tick = decode_clip(Clip("x", str(path)), Request(fps=RATE)).frames.pixels
    bars = every_tick[int(3.125 * RATE)].reshape(48, 8, -1).mean((0, 2)) > 128
    assert shown[0] == sum(int(bit) << place for place, bit in enumerate(bars))
    assert shown == every[every.index(shown[0]) :][: len(shown)] and len(shown) == 28
    assert heard(made) == pytest.approx(1.375, abs=0.2)
    with av.open(str(made)) as held:
        times = [float(frame.time) for frame in held.decode(video=0)]
    assert times[1] == pytest.approx(0.025, abs=0.002)  # shown at 3.15 s before


def test_what_does_not_say_when_frames_are_shown_is_encoded_again(
    films: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(films / "a.avi")
    copy = cut(path, 3.0, 4.0, tmp_path)
    assert "its pictures are encoded again" in capsys.readouterr().err
    assert numbers(copy) == numbers(cut(path, 3.0, 4.0, tmp_path, exact=True))


@pytest.mark.parametrize("exact", [False, True])
def test_a_cut_is_shown_as_its_video_is(tmp_path: Path, exact: bool) -> None:
    path = write(tmp_path / "turned.mp4", turned=True, sound="")
    made = cut(str(path), 1.0, 2.0, tmp_path, exact)
    assert (look(str(made)).width, look(str(made)).height) == (48, 64)
    (before,) = decode_clip(Clip("x", str(path), 1.0), Request(max_frames=1)).frames.pixels
    after = decode_clip(Clip("x", str(made), 0.0 if exact else 1.0), Request(max_frames=1))
    assert np.abs(after.frames.pixels[0].astype(int) - before).mean() < 4


def test_sound_that_mp4_holds_is_kept_whatever_decodes_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", sound="mp3")  # FFmpeg's decoder is called mp3float
    assert heard(cut(str(path), 1.0, 2.0, tmp_path, exact=True)) == pytest.approx(1, abs=0.2)


def test_a_pipe_is_not_waited_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(C4CError, match="cannot be decoded there"):
        look(str(tmp_path / "a.mp4"))


def test_a_cut_to_the_end_has_the_rest(films: Path, tmp_path: Path) -> None:
    made = cut(str(films / "a.mp4"), 4.2, None, tmp_path)
    assert made.name == "a-4.20-end.mp4" and numbers(made) == list(range(80, 100))
    assert numbers(cut(str(films / "a.mp4"), 0.0, None, tmp_path)) == list(range(100))


def test_a_cut_replaces_nothing_and_leaves_nothing_else(films: Path, tmp_path: Path) -> None:
    first = cut(str(films / "a.mp4"), 0.0, 1.0, tmp_path / "new")
    before = first.read_bytes()
    second = cut(str(films / "a.mp4"), 0.0, 1.0, tmp_path / "new")
    assert second.name == "a-0.00-1.00-1.mp4" and first.read_bytes() == before
    with pytest.raises(C4CError, match="not from 2 to 1"):
        cut(str(films / "a.mp4"), 2.0, 1.0, tmp_path / "new")
    with pytest.raises(C4CError, match="cannot be decoded there"):
        cut(str(films / "a.mp4"), 60.0, 61.0, tmp_path / "new", exact=True)
    (tmp_path / "words.mp4").write_text("no video")
    with pytest.raises(C4CError, match="cannot be decoded there"):
        cut(str(tmp_path / "words.mp4"), 0.0, 1.0, tmp_path / "new")
    assert set((tmp_path / "new").iterdir()) == {first, second}
