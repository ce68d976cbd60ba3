"""Reading random clips from a warm feature cache, against the HDF5 file that people write.

python benchmarks/cache.py [--clips 100000] [--batch 64]

The peer is one HDF5 file with a dataset a clip, read through h5py, as feature files of video
datasets commonly are; both hold the same rows, and both give a padded float32 batch.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import h5py
import numpy as np
import torch
from figures import json_option, show

from c4c.cache.manifests import save_manifest
from c4c.cache.open import Cache, create_cache
from c4c.cache.plan import plan
from c4c.cache.shard import make_shard
from c4c.cache.stored import write_shard
from c4c.core.records import Caption, Clip, Dataset, Fingerprint
from c4c.core.sampling import View

FRAMES = 12


def fill(cache: Path, peer: Path, count: int, dim: int, shard_clips: int) -> None:
    """The same rows in a cache and in one file."""
    clips = tuple(Clip(f"clip{number:07}", f"/videos/{number}.mp4") for number in range(count))
    captions = (Caption("0", clips[0].id, "a clip"),)
    made_by = Fingerprint("m", "w", "s", "p", "f", "d", "float32")
    owner = create_cache(cache, "folder", made_by).owner
    manifest = plan(Dataset("folder", "all", clips, captions), None, shard_clips)
    save_manifest(cache, manifest)
    draw = np.random.default_rng(0)
    with h5py.File(peer, "w") as file:
        for path, part in manifest.shards(cache):
            spoken = path.parent.name == "captions"
            lengths = [1 if spoken else int(draw.integers(1, FRAMES + 1)) for _ in part.ids]
            rows = [draw.standard_normal((n, dim), np.float32).astype(np.float16) for n in lengths]
            texts = {"ids": list(part.ids), "messages": [""] * len(rows)}
            if spoken:
                texts |= {"clip_ids": [clips[0].id], "texts": ["a clip"]}
            times = [np.arange(n, dtype=np.float32) for n in lengths]
            shard = make_shard(path.parent.name, rows, times, ["ok"] * len(rows), texts, dim)
            write_shard(path, shard, owner)
            if not spoken:
                for name, row in zip(part.ids, rows, strict=True):
                    file[name] = row


def from_file(file: h5py.File, names: list[str], dim: int) -> torch.Tensor:
    """What people write: a read a clip, into a padded batch."""
    batch = torch.zeros(len(names), FRAMES, dim)
    for place, name in enumerate(names):
        row = file[name][:]
        batch[place, : len(row)] = torch.from_numpy(row).float()
    return batch


def timed(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    """Seconds, and what came out."""
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found


@click.command()
@json_option
@click.option("--clips", "count", default=100_000, show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--dim", default=512, show_default=True)
@click.option("--shard-clips", default=1000, show_default=True)
@click.option("--repeats", default=300, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(count: int, batch: int, dim: int, shard_clips: int, repeats: int, threads: int) -> None:
    """Print one JSON line: milliseconds a batch, the median over random batches."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        cache, peer = Path(name) / "cache", Path(name) / "peer.h5"
        fill(cache, peer, count, dim, shard_clips)
        opening, _ = timed(lambda: Cache.open(cache).clips("all").batch([0]).features)
        view = Cache.open(cache).clips("all")
        draw = np.random.default_rng(1)
        everything = np.arange(count)
        for first in range(0, count, 1000):  # every page is in memory, every shard open
            view.batch(everything[first : first + 1000])
        own, theirs = [], []
        with h5py.File(peer, "r") as file:
            for _ in range(repeats):
                places = draw.integers(0, count, batch)
                took, found = timed(lambda p=places: view.batch(p, View(FRAMES)).features)
                own.append(took)
                names = [view.ids[place] for place in places]
                took, wanted = timed(lambda n=names: from_file(file, n, dim))
                theirs.append(took)
                if not torch.equal(found, wanted[:, : found.shape[1]]):
                    raise SystemExit("the cache and the file do not hold the same")
    ratios = [t / o for t, o in zip(theirs, own, strict=True)]
    line = {
        "clips": count,
        "batch": batch,
        "open seconds": round(opening, 3),
        "milliseconds": round(1000 * statistics.median(own), 3),
        "worst of 20": round(1000 * statistics.quantiles(own, n=20)[-1], 3),
        "times faster than a dataset a clip": round(statistics.median(ratios), 1),
    }
    show(line)


if __name__ == "__main__":
    main()
