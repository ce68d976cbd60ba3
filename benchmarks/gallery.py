"""A gallery of many windows: search through the memory map, and what it costs to add clips.

    python benchmarks/gallery.py [--windows 10000000] [--dim 512] [--clips 100000] [--folder DIR]

Pieces of random unit vectors are written as ``c4c index`` writes them, 10 windows a clip. A new
process opens them and asks one question, then many; its anonymous memory is read, and its speed
a vector set beside that of an index of a tenth of the rows in memory, in the same process. The
pieces take about 2 KB a window at 512 channels; ``--windows 0`` leaves this part out.

Then a cache of so many clips of random features gets a gallery, and 1,000 more clips: what it
costs to take these up is set beside a gallery of 1,000 clips alone. ``--clips 0`` leaves it out.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
import torch
from figures import anonymous, json_option, show  # benchmarks/figures.py
from safetensors.torch import save

from c4c import CacheWriter, Searcher
from c4c.core.files import file_sha256
from c4c.extract.backbone.load import load_backbone
from c4c.kernels import GalleryIndex, topk_similarity
from c4c.retrieval.gallery import Gallery, Held, State
from c4c.retrieval.gallery_piece import Named, piece_tensors

CLIPS, EACH, ADDED = 4096, 10, 1000  # of a piece; windows of a clip; clips added


def unit(rows: int, dim: int, seed: int) -> torch.Tensor:
    """Random directions, float32 [rows, dim]."""
    drawn = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


def write_piece(folder: Path, number: int, clips: int, dim: int) -> Held:
    """A piece of random vectors."""
    spans = np.repeat(np.arange(clips, dtype=np.int32), EACH)
    names = [Named(f"{number}-{clip}", f"{number}-{clip}.mp4", 0.0, None, False)
             for clip in range(clips)]  # fmt: skip
    tensors = piece_tensors(
        names,
        unit(clips, dim, 2 * number + 1),
        unit(clips * EACH, dim, 2 * number),
        np.stack((spans, 0 * spans, 0 * spans + 1), 1),
        unit(clips, dim, 2 * number + 1),
        [np.zeros(1, np.float32)] * clips,
        [f"{number:08}{clip:08}".encode() for clip in range(clips)],
        list(range(number * CLIPS, number * CLIPS + clips)),
    )
    path = folder / f"piece-{number:04}.safetensors"
    path.write_bytes(save(tensors))
    return Held(path.name, path.stat().st_size, file_sha256(path), "all", clips)


def median(ask: Callable[[], object], repeats: int) -> float:
    """Seconds of a call, after one that warms up."""
    ask()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def searched(folder: Path, held: list[Held], queries: int, dim: int) -> dict[str, float]:
    """What one question and many cost on the pieces of a folder."""
    asked, before = unit(queries, dim, -1), anonymous()
    state = State("key", "stamp", tuple(held))
    began = time.perf_counter()
    gallery = Gallery(folder, state)
    opened = time.perf_counter() - began
    again = median(lambda: Gallery(folder, state), 1)
    one = median(lambda: gallery.nearest("windows", asked[:1], 128), 5)
    many = median(lambda: gallery.nearest("windows", asked, 10), 1)
    more = anonymous() - before
    index = GalleryIndex(unit(gallery.windows // 10, dim, 0).half())
    single = median(lambda: topk_similarity(asked[:1], index, 128), 5)
    several = median(lambda: topk_similarity(asked, index, 10), 1)
    return {
        "windows": gallery.windows,
        "GB": round(gallery.nbytes / 1e9, 1),
        "pieces": len(gallery.pieces),
        "seconds to open": round(opened, 2),
        "seconds to open again": round(again, 2),
        "one question, s": round(one, 3),
        f"{queries} questions, s": round(many, 2),
        "MB beside pages of the files": round(more),
        "speed a vector / an index in memory, one": round(10 * single / one, 2),
        "many": round(10 * several / many, 2),
    }


def write_clips(folder: Path, split: str, clips: int) -> Path:
    """A split of clips of four frames, whose features are drawn at random."""
    backbone = load_backbone("tiny", device="cpu")
    fingerprint = backbone.fingerprint("fps=1", "none", "final", 32)
    draw = np.random.default_rng(len(split))
    with CacheWriter(folder, "drawn", fingerprint, split=split) as writer:
        for number in range(clips):
            frames = draw.standard_normal((4, backbone.embed_dim), np.float32)
            writer.add_clip(f"{split}-{number}", frames, np.arange(4.0), f"{split}-{number}.mp4")
    return folder


def taken_up(cache: Path) -> float:
    """Seconds from a searcher to its gallery."""
    with Searcher(cache, device="cpu") as searcher:
        searcher.encode(["a red circle"])
        began = time.perf_counter()
        assert len(searcher.gallery)
        return time.perf_counter() - began


def added(folder: Path, clips: int) -> dict[str, float]:
    """Seconds to take up 1,000 clips, beside many that are there and alone."""
    alone = taken_up(write_clips(folder / "alone", "more", ADDED))
    everything = taken_up(write_clips(folder / "cache", "first", clips))
    more = taken_up(write_clips(folder / "cache", "more", ADDED))
    again = taken_up(folder / "cache")
    return {
        "clips": clips,
        "gallery made, s": round(everything, 1),
        f"{ADDED} clips added, s": round(more, 2),
        f"{ADDED} clips alone, s": round(alone, 2),
        "ratio": round(more / alone, 2),
        "nothing to add, s": round(again, 2),
    }


@click.command()
@json_option
@click.option("--windows", default=10_000_000, show_default=True)
@click.option("--dim", default=512, show_default=True)
@click.option("--queries", default=1000, show_default=True)
@click.option("--clips", default=100_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where files are made.")
def main(windows: int, dim: int, queries: int, clips: int, folder: Path | None) -> None:
    """Print a line of figures for each part."""
    place = Path(tempfile.mkdtemp(prefix="c4c-gallery-", dir=folder))
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as other:
            if windows:
                sizes = [CLIPS] * (windows // EACH // CLIPS)
                held = [write_piece(place, at, size, dim) for at, size in enumerate(sizes)]
                show(other.submit(searched, place, held, queries, dim).result())
            if clips:
                show(other.submit(added, place, clips).result())
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
