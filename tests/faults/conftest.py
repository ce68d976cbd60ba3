"""Small videos for the tests of faults: every second has a colour of its own."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from c4c.records import Clip

FPS, SECONDS = 8, 3


class Films:
    """Makes videos in a folder, and says what they show.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def colour(second: int) -> tuple[int, int, int]:
        """What second ``second`` looks like."""
        return [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)][second % 4]

    def shows(self, pixels: Any, seconds: Iterable[int]) -> bool:
        """Whether frames [n, H, W, 3] are those of the given seconds."""
        wanted = np.array([self.colour(second) for second in seconds], float)
        means = np.asarray(pixels, float).mean((1, 2))
        return len(means) == len(wanted) and bool((np.abs(means - wanted).max(1) < 25).all())

    def make(
        self,
        name: str,
        codec: str = "libx264",
        pixel: str = "yuv420p",
        size: tuple[int, int] = (64, 48),
        times: Iterable[float] | None = None,
        base: int = FPS,
        rate: int = FPS,
        kind: str | None = None,
        options: dict[str, str] | None = None,
        container: dict[str, str] | None = None,
        draw: Callable[[float], Any] | None = None,
    ) -> Path:
        """Encode a video, by default three seconds of eight frames.

        Args:
            name: of the file.
            codec: encoder.
            pixel: pixel format.
            size: width and height.
            times: seconds at which frames are shown.
            base: ticks a second of their time stamps.
            rate: frames a second that the file claims.
            kind: container, where the suffix does not say.
            options: of the encoder.
            container: options of the container.
            draw: gives the picture for a time, uint8 [H, W, 3]; by default that second's colour.
        """
        path = self.root / name
        shown = [n / FPS for n in range(SECONDS * FPS)] if times is None else list(times)
        with av.open("file:" + str(path), "w", format=kind, container_options=container) as file:
            stream: Any = file.add_stream(codec, rate=rate, options=options)
            stream.width, stream.height, stream.pix_fmt = *size, pixel
            stream.codec_context.time_base = stream.time_base = Fraction(1, base)
            for time in shown:
                flat = np.full((size[1], size[0], 3), self.colour(int(time)), np.uint8)
                picture = draw(time) if draw else flat
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(time * base), Fraction(1, base)
                file.mux(stream.encode(frame))
            file.mux(stream.encode())
        return path

    def edit(self, source: str, name: str, change: Callable[[bytearray], Any]) -> Path:
        """Write a changed copy; ``change`` edits the bytes, or gives others."""
        data = bytearray((self.root / source).read_bytes())
        found = change(data)
        path = self.root / name
        path.write_bytes(data if found is None else found)
        return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    """A fresh folder of films."""
    return Films(tmp_path_factory.mktemp("films"))


@pytest.fixture
def executable(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Has processes run a shell script instead of Python."""
    before = spawn.get_executable()

    def run(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        multiprocessing.set_executable(str(path))

    yield run
    multiprocessing.set_executable(before)


@pytest.fixture
def ends() -> Iterator[None]:
    """A test that waits for ever fails."""

    def stop(*_: object) -> None:
        raise TimeoutError("still waiting")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def whole(films: Any) -> Clip:
    return Clip("whole", str(films.make("whole.mp4")))
