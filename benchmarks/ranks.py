"""Ranks of the right clips, streamed, against sorting the whole matrix of scores.

python benchmarks/ranks.py [--queries 2000 --rows 50000]
"""

import statistics
import time
from collections.abc import Callable

import click
import torch
from figures import json_option, show
from torch import Tensor
from torch.nn.functional import normalize

from c4c.kernels import ground_truth_ranks


def by_sorting(queries: Tensor, gallery: Tensor, targets: Tensor) -> Tensor:
    """Sort every row of the matrix and look the target up, as the authors' code does."""
    order = (queries @ gallery.T).argsort(1, descending=True)
    return (order == targets[:, None]).int().argmax(1) + 1.0


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@click.command()
@json_option
@click.option("--queries", default=1000, show_default=True)
@click.option("--rows", default=20_000, show_default=True)
@click.option("--dim", default=512, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(queries: int, rows: int, dim: int, threads: int, repeats: int) -> None:
    """Print one JSON line: seconds and the median ratio."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    texts = normalize(torch.randn(queries, dim, generator=generator), dim=1)
    clips = normalize(torch.randn(rows, dim, generator=generator), dim=1)
    targets = torch.randint(0, rows, (queries,), generator=generator)
    same = ground_truth_ranks(texts, clips, targets) - by_sorting(texts, clips, targets)
    own, plain = [], []
    for _ in range(repeats):
        own.append(seconds(lambda: ground_truth_ranks(texts, clips, targets)))
        plain.append(seconds(lambda: by_sorting(texts, clips, targets)))
    ratio = statistics.median(p / o for p, o in zip(plain, own, strict=True))
    show(
        {
            "queries": queries,
            "rows": rows,
            "c4c seconds": round(statistics.median(own), 4),
            "times faster than sorting": round(ratio, 2),
            "largest difference of a rank": float(same.abs().max()),
        }
    )


if __name__ == "__main__":
    main()
