"""Reading a frame cache with its checksums against reading it without, warm, batch by batch.

python benchmarks/frame_cache.py [--clips 400 --frames 12]
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from figures import json_option, show

from c4c.training.frame_store import FRAMES, FrameStore, Index, clip_crc

SIZE = 224


def make(folder: Path, clips: int, frames: int) -> Index:
    """A frame cache of random pixels."""
    generator = np.random.default_rng(0)
    ids = tuple(f"clip {number}" for number in range(clips))
    crcs = []
    with (folder / FRAMES).open("wb") as stream:
        for name in ids:
            pixels = generator.integers(0, 256, (frames, 3, SIZE, SIZE), np.uint8)
            stream.write(pixels.data)
            crcs.append(clip_crc(name, pixels))
    return Index(ids, (frames,) * clips, SIZE, None, tuple(crcs))


def seconds(store: FrameStore, batch: int) -> float:
    """How long an epoch's batches take to be read and put together, in a shuffled order."""
    places = np.random.default_rng(1).permutation(len(store.ids))
    begin = time.perf_counter()
    rows = []
    for clip in store.stream(places):
        rows.append(clip)
        if len(rows) == batch:
            np.concatenate(rows)
            rows = []
    return time.perf_counter() - begin


@click.command()
@json_option
@click.option("--clips", default=384, show_default=True)
@click.option("--frames", default=12, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(clips: int, frames: int, batch: int, repeats: int) -> None:
    """Print one JSON line: megabytes a second, and how much the checks cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = make(folder, clips, frames)
        plain, first, later = [], [], []
        for _ in range(repeats):
            without = FrameStore.open(folder, replace(index, crc32=None), SIZE)
            checked = FrameStore.open(folder, index, SIZE)
            seconds(without, batch)  # every page of both is mapped anew, and in the page cache
            plain.append(seconds(without, batch))
            first.append(seconds(checked, batch))
            later.append(seconds(checked, batch))
    size = clips * frames * 3 * SIZE**2
    cost = statistics.median(f - p for f, p in zip(first, plain, strict=True))
    show(
        {
            "megabytes": round(size / 1e6),
            "without checks, MB/s": round(size / 1e6 / statistics.median(plain)),
            "first epoch, times as long": round(
                statistics.median(f / p for f, p in zip(first, plain, strict=True)), 2
            ),
            "later epochs, times as long": round(
                statistics.median(f / p for f, p in zip(later, plain, strict=True)), 2
            ),
            "milliseconds a clip in the first epoch": round(1e3 * cost / clips, 3),
        }
    )


if __name__ == "__main__":
    main()
