"""How often a changed byte shows, codec by codec: clips with other pixels that stay ``ok``.

Videos are encoded here. One bit of their middle nine tenths is flipped at a time (with ``--size``,
bytes in a row are overwritten), and frames are compared with those of the clean file. ``wrong``
counts files whose kept frames differ, ``unseen`` those of them that are ``ok``, ``far`` those
unseen of which a frame is off by more than two levels on average.

    python benchmarks/flips.py --flips 200
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import json_option, keep

from c4c.core.records import Clip
from c4c.extract.video.decode import Decoded, decode_clip
from c4c.extract.video.request import Request

RATE, SECONDS = 20, 4
QUIET = {"x265-params": "log-level=none"}
# File, encoder, its options, width, height.
VIDEOS: list[tuple[str, str, dict[str, str], int, int]] = [
    ("h264.mp4", "libx264", {}, 320, 240),
    ("h264 small.mp4", "libx264", {}, 64, 64),
    ("h264 cavlc.mp4", "libx264", {"profile": "baseline"}, 320, 240),
    ("h264.ts", "libx264", {}, 320, 240),
    ("hevc.mp4", "libx265", QUIET, 320, 240),
    ("av1.mp4", "libsvtav1", {"preset": "10"}, 320, 240),
    ("vp9.webm", "libvpx-vp9", {"cpu-used": "8"}, 320, 240),
    ("vp8.webm", "libvpx", {"cpu-used": "8"}, 320, 240),
    ("part2.avi", "mpeg4", {"bf": "2"}, 320, 240),
    ("mpeg2.ts", "mpeg2video", {"bf": "2"}, 320, 240),
]


def encode(path: Path, codec: str, options: dict[str, str], width: int, height: int) -> None:
    """A picture that moves under grain."""
    import av

    draw = np.random.default_rng(0)
    blocks = draw.integers(0, 240, (height // 8, width // 8 + 20, 3))
    wide = np.kron(blocks, np.ones((8, 8, 1), int))
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=RATE if codec != "mpeg2video" else 25)
        stream.options = options
        stream.codec_context.thread_count = 1
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(SECONDS * RATE):
            left = number % (wide.shape[1] - width)
            picture = wide[:, left : left + width] + draw.integers(0, 16, (height, width, 1))
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def difference(found: Decoded, clean: Decoded) -> float:
    """The largest mean difference of a kept frame from the clean one of its time, in levels."""
    places = {time: place for place, time in enumerate(clean.frames.times.tolist())}
    worst = 0.0
    for time, picture in zip(found.frames.times.tolist(), found.frames.pixels, strict=True):
        place = places.get(time)
        if place is None or picture.shape != clean.frames.pixels[place].shape:
            return 255.0
        apart = np.abs(picture.astype(np.int16) - clean.frames.pixels[place]).mean()
        worst = max(worst, float(apart))
    return worst if len(found.frames) or found.status != "ok" else 255.0


@click.command()
@json_option
@click.option("--flips", default=100, show_default=True, help="Of each video.")
@click.option("--fps", default=float(RATE), show_default=True, help="Frames a second taken.")
@click.option("--size", default=0, help="Bytes in a row that are changed instead of one bit.")
@click.option("--seed", default=0, show_default=True)
@click.option("--only", default="", help="Part of a file's name.")
def main(flips: int, fps: float, size: int, seed: int, only: str) -> None:
    """Encode, flip, decode, count."""
    print(f"{'video':16}{'clean':>8}{'flips':>7}{'seen':>6}{'wrong':>7}{'unseen':>8}{'far':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for name, *settings in VIDEOS:
            if only in name:
                print(
                    row(Path(folder, name), settings, flips, Request(fps=fps), seed, size),
                    flush=True,
                )


def row(path: Path, settings: Any, flips: int, request: Request, seed: int, size: int) -> str:
    """One video's line of the table."""
    encode(path, *settings)
    data, chance = path.read_bytes(), random.Random(seed)
    clean = decode_clip(Clip("x", str(path)), request)
    seen = wrong = unseen = far = 0
    for _ in range(flips):
        flipped = bytearray(data)
        place = chance.randrange(len(data) // 20, len(data) * 19 // 20)
        flipped[place] ^= 1 << chance.randrange(8)
        flipped[place : place + size] = chance.randbytes(len(flipped[place : place + size]))
        path.write_bytes(flipped)
        found = decode_clip(Clip("x", str(path)), request)
        apart = difference(found, clean)
        seen += found.status != "ok"
        wrong += apart > 0
        unseen += apart > 0 and found.status == "ok"
        far += apart > 2 and found.status == "ok"
    keep({"video": path.name, "clean": clean.status, "flips": flips, "seen": seen,
          "wrong": wrong, "unseen": unseen, "far": far})  # fmt: skip
    counts = f"{flips:>7}{seen:>6}{wrong:>7}{unseen:>8}{far:>6}"
    return f"{path.name:16}{clean.status:>8}{counts}"


if __name__ == "__main__":
    main()
