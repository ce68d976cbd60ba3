"""Exact top-k on a CPU: c4c against faiss, flat and Panorama, torch.mm + topk and usearch.

Faiss is IndexFlatIP; Panorama is IndexFlatIPPanorama, exact too, which leaves out what it can.
All in one process with the same threads, in alternation, so that whatever else the machine does
hits all of them; the figure is the median of the ratios of neighbouring runs. Ids of
all queries are compared with brute force in float64 up to ties within 1e-6.

    python benchmarks/topk.py                                  # 1,000,000 rows, 1,000 queries
    python benchmarks/topk.py --queries 1
    python benchmarks/topk.py --rows 100000
    python benchmarks/topk.py --rows 100000 --data all --against torch
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from figures import json_option, show
from torch import Tensor
from torch.nn.functional import normalize

from c4c.kernels import GalleryIndex, topk_similarity
from c4c.kernels.topk.blocks import blocks_of, search_blocks

PEERS = ("faiss", "panorama", "torch", "usearch", "c4c in float32")
LEVELS = 8  # of Panorama, its best setting for 512 channels
DATA = ("random", "clip", "clustered", "duplicates", "unnormalised", "crowded", "poles")


def make(kind: str, rows: int, dim: int, generator: torch.Generator) -> Tensor:
    """Rows [N, D] of the kind; "clip" has a strong common direction, as CLIP's vectors do."""
    x = torch.randn(rows, dim, generator=generator)
    if kind == "clip":
        x += 3.0 * torch.randn(dim, generator=generator)
    elif kind == "clustered":
        x = x[torch.randint(0, 1 + rows // 100, (rows,), generator=generator)] + 0.3 * x
    elif kind == "duplicates":
        x = x[torch.randint(0, 1 + rows // 20, (rows,), generator=generator)]
    elif kind == "crowded":  # Thousands of rows are closer together than int8 can tell.
        x = x[torch.randint(0, 20, (rows,), generator=generator)] + 0.01 * x
    elif kind == "poles":  # Half of the rows have the same score for all that int8 can tell.
        x = x[:1] * torch.randn(rows, 1, generator=generator).sign() + 1e-4 * x
    elif kind == "unnormalised":
        return x * torch.exp(torch.randn(rows, 1, generator=generator))
    return normalize(x, dim=1)


def peer(name: str, queries: Tensor, gallery: Tensor, k: int) -> Callable[[], Any] | None:
    """The search that ``name`` stands for, ready to run; None (and a word) if not installed."""
    threads = torch.get_num_threads()
    try:
        if name in ("faiss", "panorama"):
            import faiss

            faiss.omp_set_num_threads(threads)
            dim = gallery.shape[1]
            pruned = getattr(faiss, "IndexFlatIPPanorama", None)  # of newer ones
            if name == "panorama" and pruned is None:
                raise ImportError
            flat = pruned(dim, LEVELS) if name == "panorama" else faiss.IndexFlatIP(dim)
            flat.add(gallery.numpy())
            return lambda: flat.search(queries.numpy(), k)
        if name == "usearch":
            from usearch.index import MetricKind, search

            both = gallery.numpy(), queries.numpy()
            return lambda: search(*both, k, MetricKind.IP, exact=True, threads=threads)
    except ImportError:
        click.echo(f"{name} is not installed and is left out (pip install '.[dev]').", err=True)
        return None
    if name == "torch":
        # The whole matrix of scores, 100 queries at a time.
        return lambda: [(part @ gallery.T).topk(k, 1) for part in queries.split(100)]
    return lambda: search_blocks(queries, blocks_of(gallery), k)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long ``work`` took, and what it returned."""
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def peak_bytes(work: Callable[[], Any]) -> tuple[int, Any]:
    """By how much ``work`` raises the resident memory at its peak (Linux), and its result."""
    Path("/proc/self/clear_refs").write_text("5")  # The peak begins at what is resident now.
    before = _status("VmRSS")
    result = work()
    return _status("VmHWM") - before, result


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def same_up_to_ties(queries: Tensor, gallery: Tensor, indices: Tensor) -> bool:
    """Whether ``indices`` [Q, k] have the scores of the k best in float64, within 1e-6."""
    wide, k = queries.double(), indices.shape[1]
    best = wide.new_full((len(queries), k), -torch.inf)
    for part in gallery.split(1 << 14):
        scores = (wide @ part.double().T).topk(min(k, len(part)), 1).values
        best = torch.cat([best, scores], 1).topk(k, 1).values
    for query, found, expected in zip(wide, indices, best, strict=True):
        off = (gallery[found].double() @ query - expected).abs().max()
        if off > 1e-6 * expected.abs().max() or len(found.unique()) < k:
            return False
    return True


def measure(
    rows: int, count: int, dim: int, k: int, kind: str, against: tuple[str, ...], repeats: int
) -> dict[str, Any]:
    """One case: times of c4c and the median ratios of the peers to it."""
    generator = torch.Generator().manual_seed(0)
    gallery, queries = make(kind, rows, dim, generator), make(kind, count, dim, generator)
    GalleryIndex(gallery[:2000])  # The compiled part is loaded.
    build, (peak, index) = seconds(lambda: peak_bytes(lambda: GalleryIndex(gallery)))
    _, indices = topk_similarity(queries, index, k)
    own, ratios = [], {}
    for name in against:
        work = peer(name, queries, gallery, k)
        if work is None:
            continue
        ratios[name] = []
        # Faiss is the one to beat; the slow ones get fewer turns.
        for _ in range(repeats if name == "faiss" or rows * count <= 10**8 else 1):
            mine = seconds(lambda: topk_similarity(queries, index, k))[0]
            own.append(mine)
            ratios[name].append(seconds(work)[0] / mine)
        del work
    return {
        "rows": rows,
        "queries": count,
        "data": kind,
        "threads": torch.get_num_threads(),
        "build seconds": round(build, 2),
        "peak memory of the build / gallery": round(peak / (4 * rows * dim), 3),
        "c4c seconds": round(statistics.median(own), 4),
        "times faster than": {n: round(statistics.median(r), 2) for n, r in ratios.items()},
        "ids as in float64": same_up_to_ties(queries, gallery, indices),
    }


@click.command()
@json_option
@click.option("--rows", type=int, default=1_000_000, show_default=True)
@click.option("--queries", type=int, default=1000, show_default=True)
@click.option("--dim", type=int, default=512, show_default=True)
@click.option("--k", type=int, default=10, show_default=True)
@click.option("--data", type=click.Choice([*DATA, "all"]), default="random", show_default=True)
@click.option("--against", type=click.Choice(PEERS), multiple=True, help="Default: all of them.")
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--repeats", type=int, default=5, show_default=True)
def main(
    rows: int,
    queries: int,
    dim: int,
    k: int,
    data: str,
    against: tuple[str, ...],
    threads: int,
    repeats: int,
) -> None:
    """Print one JSON line a kind of data."""
    torch.set_num_threads(threads)
    for kind in DATA if data == "all" else (data,):
        line = measure(rows, queries, dim, k, kind, against or PEERS, repeats)
        show(line)


if __name__ == "__main__":
    main()
