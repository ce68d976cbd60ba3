"""What the tests of faults look at: videos whose seconds have colours, and small caches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from c4c.cache.head_init import save_head_init
from c4c.cache.manifests import load_manifests, save_manifest
from c4c.cache.open import Cache, commit_shard, create_cache
from c4c.cache.plan import plan
from c4c.cache.shard import Shard, make_shard
from c4c.cache.stored import holds
from c4c.cli.app import group
from c4c.core.records import Caption, Clip, Dataset, Fingerprint

FPS, SECONDS = 8, 3


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """SVT-AV1 makes its caller a real-time thread where it may: others would wait for it."""
    ordinary = os.SCHED_OTHER, os.sched_param(0)
    os.sched_setscheduler(0, *ordinary)  # a fixture of the module may have used it
    yield
    os.sched_setscheduler(0, *ordinary)


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


class SmallCache:
    """A cache of random features, made without a backbone in some milliseconds.

    Attributes:
        path: the folder; ``owner`` what binds its shards.
    """

    def __init__(self, path: Path, weights: str = "one", clips: int = 8) -> None:
        self.path, self.weights = path, weights
        self.fill(clips)

    def fill(self, clips: int, shard_clips: int = 4) -> None:
        """What an extraction of that many clips leaves, which goes on where one stopped."""
        made_by = Fingerprint("m", f"{self.weights}.pt", self.weights, "p", "f", "d", "float32")
        self.cache = create_cache(self.path, "folder", made_by)
        self.owner = self.cache.owner
        save_head_init(self.path, {"visual_proj": torch.eye(8)}, self.weights)
        names = [f"clip {number:03d}" for number in range(clips)]
        data = Dataset(
            "folder",
            "all",
            tuple(Clip(name, f"/videos/{name}.mp4") for name in names),
            tuple(Caption(f"{name}#0", name, f"sentence of {name}") for name in names),
        )
        manifest = plan(data, load_manifests(self.path).get("all"), shard_clips)
        if not load_manifests(self.path) or clips != len(load_manifests(self.path)["all"].clips):
            save_manifest(self.path, manifest)
        for path, part in load_manifests(self.path)["all"].shards(self.path):
            if not holds(path, self.owner):
                commit_shard(self.cache, path, self.shard(path.parent.name, part.ids))

    def shard(self, kind: str, ids: Sequence[str]) -> Shard:
        """Rows that depend on their id and the weights alone."""
        rows = []
        for name in ids:
            draw = np.random.default_rng(zlib.crc32(f"{self.weights} {name}".encode()))
            frames = 1 if kind == "captions" else int(draw.integers(1, 5))
            rows.append(draw.standard_normal((frames, 8)).astype(np.float16))
        texts = {"ids": list(ids), "messages": [""] * len(ids)}
        texts |= {"clip_ids": [name[:8] for name in ids], "texts": list(ids)}
        times = [np.arange(len(row), dtype=np.float32) for row in rows]
        return make_shard(kind, rows, times, ["ok"] * len(ids), texts, 8)

    def shards(self, kind: str = "clips") -> list[Path]:
        """Paths of the shards of a kind, sorted."""
        return sorted((self.path / "shards" / "all" / kind).glob("*.h5"))

    def content(self) -> dict[str, bytes]:
        """Features of everything, by id."""
        clips, captions = Cache.open(self.path).clips(), Cache.open(self.path).captions()
        found = {name: clips.read(i)[0].tobytes() for i, name in enumerate(clips.ids)}
        return found | {
            c.id: captions.features[i].tobytes() for i, c in enumerate(captions.captions)
        }


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., SmallCache]:
    """Makes small caches: ``small(name, weights, clips)``."""

    def make(name: str = "cache", weights: str = "one", clips: int = 8) -> SmallCache:
        return SmallCache(tmp_path / name, weights, clips)

    return make


def verify(cache: Path, *options: str) -> tuple[int, str]:
    """Exit status of ``c4c cache verify``, and its words."""
    done = CliRunner().invoke(group, ["cache", "verify", str(cache), *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


@pytest.fixture(name="verify")
def verify_fixture() -> Callable[..., tuple[int, str]]:
    """``c4c cache verify``: gives the exit status, and what was printed."""
    return verify


@pytest.fixture
def deadline() -> Iterator[None]:
    """A test that waits for something ends after a minute, as a failure."""

    def late(*_: object) -> None:
        raise TimeoutError("still waiting after a minute")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 60)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


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
