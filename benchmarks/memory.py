"""Memory of an extraction, decoder processes included: flat over many clips, and over a long one.

    python benchmarks/memory.py --json FILE

``c4c extract`` runs as a user would run it, and the memory of its process tree (PSS: shared pages
count once) is read twice a second:

- many: small clips, with the shipped tiny backbone. After a fifth of them (everything is loaded
  then) memory against clips committed is a line, whose slope is what a thousand clips add;
- long: ViT-B/32 with random weights over a video of a few minutes, and over one of hours, every
  frame of which is wanted. Between the largest of each lies what length costs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
import psutil

from c4c.core.files import write_json

SHARD = 100  # clips; progress is read off the shards


def make_video(path: Path, seconds: int, side: int, seed: int) -> None:
    """Blurred squares that move, one frame a second."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(0, 256, (8, 8, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=1, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for number in range(seconds):
            shown = av.VideoFrame.from_ndarray(np.roll(coarse, number, 1), format="rgb24")
            container.mux(stream.encode(shown.reformat(side, side)))
        container.mux(stream.encode())


def tree(process: psutil.Process) -> float:
    """MB of a process and all below it."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:  # it has ended meanwhile
            continue
    return total / 1e6


def watch(root: Path, cache: Path, *options: str) -> list[tuple[int, float]]:
    """Extract ``root``; clips committed and MB of the tree, over time."""
    command = [sys.executable, "-m", "c4c", "extract", "--dataset", "folder", "--root", str(root)]
    command += ["--cache", str(cache), "--shard-clips", str(SHARD), "--device", "cpu", *options]
    found = []
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
        process = psutil.Process(running.pid)
        while running.poll() is None:
            done = sum(1 for _ in cache.glob("shards/*/clips/*.h5")) * SHARD
            try:
                found.append((done, tree(process)))
            except psutil.Error:
                break
            time.sleep(0.5)
    if running.returncode:
        raise SystemExit(f"extraction ended with {running.returncode}")
    return found


def many(here: Path, clips: int) -> dict[str, Any]:
    """Memory over many small clips."""
    root = here / "many"
    root.mkdir()
    for number in range(clips):
        path = root / f"{number:06}.mp4"
        if number < 50:
            make_video(path, 3 + number % 5, 96 + 16 * (number % 4), number)
        else:  # another name of the same file
            os.link(root / f"{number % 50:06}.mp4", path)
    began = time.monotonic()
    seen = [
        one for one in watch(root, here / "cache-many", "--backbone", "tiny")
        if one[0] >= clips // 5
    ]  # fmt: skip
    done, used = np.array(seen).T
    slope = float(np.polyfit(done, used, 1)[0]) * 1000
    return {
        "clips": clips,
        "seconds": round(time.monotonic() - began),
        "samples": len(seen),
        "MB_at_a_fifth": round(float(np.median(used[:5]))),
        "MB_at_the_end": round(float(np.median(used[-5:]))),
        "MB_most": round(float(used.max())),
        "MB_per_1000_clips": round(slope, 2),
    }


def long(here: Path, minutes: int) -> dict[str, Any]:
    """The most memory over one video."""
    root = here / f"long-{minutes}"
    root.mkdir()
    make_video(root / "video.mp4", minutes * 60, 224, 0)
    options = ("--backbone", "ViT-B-32", "--pretrained", "none", "--workers", "1")
    used = [mb for _, mb in watch(root, here / f"cache-{minutes}", *options)]
    return {
        "minutes": minutes,
        "MB_of_frames": round(minutes * 60 * 224 * 224 * 3 / 1e6),
        "MB_most": round(max(used)),
    }


@click.command()
@click.option("--clips", default=5000, show_default=True)
@click.option("--minutes", default=120, show_default=True, help="Of the long video.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(clips: int, minutes: int, path: Path | None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        found = {"cores": len(os.sched_getaffinity(0)), "many": many(here, clips)}
        found |= {"short": long(here, 4), "long": long(here, minutes)}
    click.echo(json.dumps(found, indent=1))
    if path:
        write_json(path, found)


if __name__ == "__main__":
    main()
