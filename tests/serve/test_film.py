"""What browsers play and what is converted for them, by what the files hold."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from c4c.core.errors import C4CError
from c4c.core.records import Clip
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.request import Request
from c4c.serve.film import Films, is_played, media_type
from c4c.serve.store import Store, forget


def write(path: Path, codec: str, pixels: str = "yuv420p") -> Path:
    """Four seconds, each of a grey level of its own."""
    with av.open(str(path), "w") as made:
        stream: Any = made.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, pixels
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(100):
            level = 40 + 50 * (number // 25)
            frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), level, np.uint8), "rgb24")
            frame.pts = number
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "played"),
    [
        ("a.mp4", "libx264", "yuv420p", True),
        ("a.mp4", "libx264", "yuv422p", False),
        ("a.mp4", "libx264", "yuv420p10le", False),
        ("a.mp4", "mpeg4", "yuv420p", False),
        ("a.avi", "mpeg4", "yuv420p", False),
        ("a.mpg", "mpeg2video", "yuv420p", False),
        ("a.wmv", "wmv2", "yuv420p", False),
        ("a.webm", "libvpx-vp9", "yuv420p", True),
    ],
)
def test_what_browsers_do_not_play_has_a_preview_that_they_do(
    tmp_path: Path, name: str, codec: str, pixels: str, played: bool
) -> None:
    path, films = str(write(tmp_path / name, codec, pixels)), Films()
    assert is_played(films.about(path), media_type(path)) is played
    preview = films.preview(path, 1.0, 2.0)
    assert is_played(films.about(str(preview)), media_type(str(preview)))
    frames = decode_clip(Clip("x", str(preview)), Request(fps=1.0)).frames
    levels = frames.pixels.mean(axis=(1, 2, 3))
    assert np.abs(levels - [90, 140]).max() < 8
    assert films.preview(path, 1.0, 2.0) == preview  # kept


def test_a_file_that_is_no_video_is_none_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"nonsense" * 100)
    with pytest.raises(C4CError, match="cannot be decoded"):
        Films().about(str(tmp_path / "a.mp4"))
    (tmp_path / "b.mp4").write_text("secret words")
    with pytest.raises(C4CError, match="is not a video"):
        media_type(str(tmp_path / "b.mp4"))


def test_the_store_keeps_what_was_used_last() -> None:
    import os

    store = Store("a-test", 1000)
    for number in range(10):
        path = store.put("/a", number, lambda target: target.write_bytes(b"x" * 200))
        os.utime(path, (number, number))
        if number:
            os.utime(store._path("/a", 0), (100 + number, 100 + number))  # used again and again
    assert store.get("/a", 0) and store.get("/a", 9) and not store.get("/a", 1)
    assert sum(file.stat().st_size for file in store.folder.iterdir()) <= 1000

    def broken(target: Path) -> None:
        target.write_bytes(b"half")
        raise C4CError("no")

    with pytest.raises(C4CError):
        store.put("/a", "broken", broken)
    assert not store.get("/a", "broken") and not list(store.folder.glob(".new-*"))


def test_all_that_was_made_of_a_video_can_be_forgotten() -> None:
    pictures, parts = Store("pictures", 1000), Store("parts", 1000)
    for video in ("/a", "/b\udcff"):  # a name that is not UTF-8
        pictures.put(video, 1, lambda target: target.write_bytes(b"1234"))
        pictures.put(video, 2, lambda target: target.write_bytes(b"12"))
        parts.put(video, 1, lambda target: target.write_bytes(b"1"))
    assert forget(["/b\udcff", "/c"]) == 7
    assert pictures.get("/a", 1) and pictures.get("/a", 2) and parts.get("/a", 1)
    assert not any(store.get("/b\udcff", key) for store in (pictures, parts) for key in (1, 2))
    assert forget([]) == 0
