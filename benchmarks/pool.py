"""Masked mean pooling on a CPU: against the obvious torch expression and read bandwidth.

python benchmarks/pool.py [--clips 20000 --frames 12 --dim 512] [--even]
"""

import statistics
import time
from collections.abc import Callable

import click
import torch
from figures import json_option, show
from torch import Tensor

from c4c.kernels import masked_mean_pool
from c4c.kernels.pool.naive import masked_mean_pool_reference


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def obvious(packed: Tensor, offsets: Tensor) -> Tensor:
    """Pad, convert, normalise, mask, average, normalise: what one would write."""
    lengths = offsets.diff()
    clips = torch.split(packed, lengths.tolist())
    padded = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    return masked_mean_pool_reference(padded.float(), lengths)


@click.command()
@json_option
@click.option("--clips", default=20_000, show_default=True)
@click.option("--frames", default=12, show_default=True, help="Most frames a clip.")
@click.option("--even", is_flag=True, help="Every clip has that many.")
@click.option("--dim", default=512, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=15, show_default=True)
def main(clips: int, frames: int, even: bool, dim: int, threads: int, repeats: int) -> None:
    """Print one JSON line: seconds, gigabytes a second, and the median ratios."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    fewest = frames if even else 1
    lengths = torch.randint(fewest, frames + 1, (clips,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    packed = torch.randn(int(offsets[-1]), dim, generator=generator).half()
    bytes_read = packed.numel() * 2
    # Reading alone: a sum of the same bytes as 64-bit integers.
    words = packed.view(torch.int64)
    masked_mean_pool(packed, offsets=offsets)
    own, plain, read = [], [], []
    for _ in range(repeats):
        own.append(seconds(lambda: masked_mean_pool(packed, offsets=offsets)))
        plain.append(seconds(lambda: obvious(packed, offsets)))
        read.append(seconds(words.sum))
    ratio = statistics.median(p / o for p, o in zip(plain, own, strict=True))
    share = statistics.median(r / o for r, o in zip(read, own, strict=True))
    show(
        {
            "clips": clips,
            "frames": frames if even else f"1 to {frames}",
            "c4c seconds": round(statistics.median(own), 4),
            "GB/s": round(bytes_read / statistics.median(own) / 1e9, 2),
            "read GB/s": round(bytes_read / statistics.median(read) / 1e9, 2),
            "share of read bandwidth": round(share, 3),
            "share with what is written": round(share * (1 + len(lengths) / len(packed)), 3),
            "times faster than torch": round(ratio, 2),
        }
    )


if __name__ == "__main__":
    main()
