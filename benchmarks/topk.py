"""Exact top-k on a CPU: c4c against faiss.IndexFlatIP, torch.mm + topk and usearch.

All in one process with the same threads, in alternation, so that whatever else the machine
does hits all of them; the figure is the median of the ratios of neighbouring runs. Ids are
compared with brute force in float64 up to ties within 1e-6.

    python benchmarks/topk.py [--rows 1000000 --queries 1000] [--data clip] [--repeats 5]
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import faiss
import torch
from torch import Tensor
from torch.nn.functional import normalize

from c4c.kernels import GalleryIndex, topk_similarity

CASES = ((1_000_000, 1000), (1_000_000, 1), (100_000, 1000))
DATA = ("random", "clip", "clustered", "duplicates", "unnormalised")


def make(kind: str, rows: int, dim: int, generator: torch.Generator) -> Tensor:
    """Rows [N, D] of the kind; "clip" has a strong common direction, as CLIP's vectors do."""
    x = torch.randn(rows, dim, generator=generator)
    if kind == "clip":
        x += 3.0 * torch.randn(dim, generator=generator)
    elif kind == "clustered":
        x = x[torch.randint(0, 1 + rows // 100, (rows,), generator=generator)] + 0.3 * x
    elif kind == "duplicates":
        x = x[torch.randint(0, 1 + rows // 20, (rows,), generator=generator)]
    elif kind == "unnormalised":
        return x * torch.exp(torch.randn(rows, 1, generator=generator))
    return normalize(x, dim=1)


def by_torch(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """The whole matrix of scores, then torch.topk, 100 queries at a time."""
    return torch.cat([(part @ gallery.T).topk(k, 1).indices for part in queries.split(100)])


def by_usearch(queries: Tensor, gallery: Tensor, k: int) -> Tensor:
    """Exact search by usearch."""
    from usearch.index import MetricKind, search

    threads = torch.get_num_threads()
    found = search(gallery.numpy(), queries.numpy(), k, MetricKind.IP, exact=True, threads=threads)
    return torch.from_numpy(found.keys.astype("int64")).reshape(len(queries), k)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long ``work`` took, and what it returned."""
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def same_up_to_ties(queries: Tensor, gallery: Tensor, indices: Tensor) -> bool:
    """Whether ``indices`` [Q, k] have the scores of the k best in float64, within 1e-6."""
    for query, found in zip(queries.double(), indices, strict=True):
        exact = torch.cat([part.double() @ query for part in gallery.split(1 << 16)])
        best = exact.topk(len(found)).values
        if (exact[found] - best).abs().max() > 1e-6 * best.abs().max():
            return False
    return True


def measure(rows: int, count: int, dim: int, k: int, kind: str, repeats: int) -> dict[str, Any]:
    """One case: times of each peer and the median ratios to c4c."""
    generator = torch.Generator().manual_seed(0)
    gallery, queries = make(kind, rows, dim, generator), make(kind, count, dim, generator)
    build, index = seconds(lambda: GalleryIndex(gallery))
    flat = faiss.IndexFlatIP(dim)
    flat.add(gallery.numpy())
    peers: dict[str, Callable[[], Any]] = {
        "faiss": lambda: flat.search(queries.numpy(), k),
        "torch": lambda: by_torch(queries, gallery, k),
        "usearch": lambda: by_usearch(queries, gallery, k),
        "c4c float32": lambda: topk_similarity(queries, gallery, k),
    }
    ratios: dict[str, list[float]] = {name: [] for name in peers}
    own = []
    _, (_, indices) = seconds(lambda: topk_similarity(queries, index, k))
    for turn in range(repeats):
        # The slow peers get fewer turns.
        for name in peers if turn == 0 else ["faiss", "faiss"] if count == 1 else ["faiss"]:
            mine, (_, indices) = seconds(lambda: topk_similarity(queries, index, k))
            own.append(mine)
            ratios[name].append(seconds(peers[name])[0] / mine)
    return {
        "rows": rows,
        "queries": count,
        "data": kind,
        "build seconds": round(build, 2),
        "index bytes per gallery byte": round(index.nbytes / (4 * rows * dim), 4),
        "c4c seconds": round(statistics.median(own), 4),
        "times faster than": {n: round(statistics.median(r), 2) for n, r in ratios.items()},
        "ids as in float64": same_up_to_ties(queries[:20], gallery, indices[:20]),
    }


@click.command()
@click.option("--rows", type=int, help="Gallery rows; default: the three cases of the docs.")
@click.option("--queries", type=int, default=1000, show_default=True)
@click.option("--dim", type=int, default=512, show_default=True)
@click.option("--k", type=int, default=10, show_default=True)
@click.option("--data", type=click.Choice(DATA), default="random", show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--repeats", type=int, default=5, show_default=True)
def main(
    rows: int | None, queries: int, dim: int, k: int, data: str, threads: int, repeats: int
) -> None:
    """Print one JSON line a case."""
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    for n, q in CASES if rows is None else ((rows, queries),):
        print(json.dumps(measure(n, q, dim, k, data, repeats)), flush=True)


if __name__ == "__main__":
    main()
