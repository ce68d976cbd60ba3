"""Evaluation without the matrix: memory beyond the gallery, and time against the whole matrix.

    python benchmarks/evaluate.py --queries 59800 --clips 1000000 --json FILE

The peer makes all scores at once, as evaluation code usually does; it is left out where its
matrix would need more than 4 GB. Ranks are checked against the matrix in float64, untimed; the
peer's own float32 scores can round two close clips to one order or the other.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import click
import numpy as np
import torch

from c4c.core.files import write_json
from c4c.kernels import ground_truth_ranks

_LARGEST = 4e9


def unit(rows: int, dim: int, generator: torch.Generator) -> torch.Tensor:
    """Random unit vectors [rows, dim], made in blocks."""
    found = torch.empty(rows, dim)
    for part in found.split(1 << 14):
        part.copy_(torch.nn.functional.normalize(torch.randn(part.shape, generator=generator)))
    return found


def peak() -> float:
    """The most memory this process ever held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def whole_matrix(queries: torch.Tensor, gallery: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """Ranks from the matrix of all scores."""
    scores = queries @ gallery.T
    own = scores.gather(1, targets[:, None])
    ranks: np.ndarray = ((scores > own).sum(1) + 1).double().numpy()
    return ranks


@click.command()
@click.option("--queries", default=2000, show_default=True)
@click.option("--clips", default=20_000, show_default=True)
@click.option("--dim", default=512, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(queries: int, clips: int, dim: int, path: Path | None) -> None:
    """Measure, print and perhaps write the figures."""
    generator = torch.Generator().manual_seed(0)
    gallery, text = unit(clips, dim, generator), unit(queries, dim, generator)
    targets = torch.randint(clips, (queries,), generator=generator)
    ground_truth_ranks(text[:2], gallery[:1000], [0, 1])  # loads what is loaded once
    before, began = peak(), time.perf_counter()
    ranks = ground_truth_ranks(text, gallery, targets)
    found = {
        "queries": queries,
        "clips": clips,
        "dim": dim,
        "threads": torch.get_num_threads(),
        "seconds": time.perf_counter() - began,
        "gb_beyond_gallery": peak() - before,
        "matrix_gb": queries * clips * 4 / 1e9,
    }
    if found["matrix_gb"] * 1e9 <= _LARGEST:
        began = time.perf_counter()
        whole_matrix(text, gallery, targets)
        found["matrix_seconds"] = time.perf_counter() - began
        found["ratio"] = found["matrix_seconds"] / found["seconds"]
        other = whole_matrix(text.double(), gallery.double(), targets)
        found["queries_that_differ"] = int((np.abs(ranks.numpy() - other) > 0.5).sum())
    click.echo(json.dumps(found, indent=1))
    if path:
        write_json(path, found)


if __name__ == "__main__":
    main()
