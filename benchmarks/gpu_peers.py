"""Times of gpu.py that files, other libraries or a compiler have a part in."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_bench import Bench
from gpu_times import AT_ONCE, dense
from torch import Tensor

from c4c.kernels import contrastive_loss, masked_mean_pool, topk_similarity
from c4c.kernels.pool.naive import masked_mean_pool_reference


def time_files(bench: Bench) -> None:
    """A memory-mapped gallery, against reading the file (what the system keeps of it is warm)."""
    total, width = bench.size(2_000_000, 300), bench.size(512, 16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gallery.npy"
        held = np.lib.format.open_memmap(path, "w+", np.float16, (total, width))
        for low in range(0, total, 1 << 18):
            part = held[low : low + (1 << 18)]
            part[:] = bench.rows(len(part), width, torch.float16, low).cpu().numpy()
        held.flush()
        gallery = np.load(path, mmap_mode="r")
        for count in (1, bench.size(AT_ONCE, 6)):
            queries = bench.rows(count, width, torch.float16, 1)
            case = f"top-k from a file, fp16, Q = {count:,}"
            work = (torch.float16, 2.0 * count * total * width, float(gallery.nbytes))
            bench.timed(case, "c4c", lambda q=queries: topk_similarity(q, gallery, 10), *work)
            bench.timed(case, "reading the file", lambda: read(gallery), *work)


def read(rows: np.ndarray[Any, Any]) -> None:
    """Copy rows into memory, a block at a time into the same place."""
    room = np.empty_like(rows[: 1 << 17])
    for low in range(0, len(rows), len(room)):
        part = rows[low : low + len(room)]
        np.copyto(room[: len(part)], part)


def time_libraries(bench: Bench) -> None:
    """Exact search by FAISS and cuVS, where they can be imported."""
    total, width, count = bench.size(1_000_000, 100), bench.size(512, 16), bench.size(1000, 4)
    gallery = bench.rows(total, width, torch.float32)
    queries = bench.rows(count, width, torch.float32, 1)
    case = f"top-k, fp32, Q = {count:,}, k = 10"
    work = (torch.float32, 2.0 * count * total * width, float(gallery.nbytes))
    bench.timed(case, "c4c", lambda: topk_similarity(queries, gallery, 10), *work)
    for by, make in {"FAISS": faiss_search, "cuVS": cuvs_search}.items():
        try:
            search = make(queries, gallery)
        except Exception as error:  # a peer that is not there, or not for this GPU
            words = f"{type(error).__name__}: {error}"[:200]
            bench.case(case, lambda by=by, words=words: {"by": by, "skipped": words})
            continue
        bench.timed(case, by, search, *work)


def faiss_search(queries: Tensor, gallery: Tensor) -> Callable[[], object]:
    """FAISS's exact search over vectors that are on the GPU."""
    import faiss
    import faiss.contrib.torch_utils

    resources = faiss.StandardGpuResources()
    kind = faiss.METRIC_INNER_PRODUCT
    return lambda: faiss.knn_gpu(resources, queries, gallery, 10, metric=kind)


def cuvs_search(queries: Tensor, gallery: Tensor) -> Callable[[], object]:
    """CuVS's exact search over vectors that are on the GPU."""
    from cuvs.neighbors import brute_force

    index = brute_force.build(gallery, metric="inner_product")
    return lambda: brute_force.search(index, queries, 10)


def time_compiled(bench: Bench) -> None:
    """The same against what torch.compile makes of the plain expressions (it takes a while)."""
    width, clips = bench.size(512, 16), bench.size(100_000, 6)
    frames = torch.randn(clips, 12, width, device=bench.device, dtype=torch.float16)
    lengths = torch.full((clips,), 12, device=bench.device)
    work = (torch.float16, 0.0, frames.nbytes * 13 / 12)
    case = f"pool, fp16, {clips:,} x 12 padded"
    bench.timed(case, "c4c", lambda: masked_mean_pool(frames, lengths), *work)
    scale, batch = torch.tensor(100.0, device=bench.device), bench.size(4096, 6)
    two = [bench.rows(batch, width, torch.bfloat16, seed).requires_grad_() for seed in (1, 2)]
    loss_work = (torch.bfloat16, 6.0 * batch * batch * width, 4.0 * two[0].nbytes)
    loss_case = f"loss, bf16, {batch:,} pairs, with gradients"
    bench.timed(
        loss_case,
        "c4c",
        lambda: torch.autograd.grad(contrastive_loss(*two, scale), two),
        *loss_work,
    )
    if bench.rehearse:
        return  # a compiler for the CPU would be tried, and takes longer than all the rest
    pool, loss = torch.compile(masked_mean_pool_reference), torch.compile(dense)
    bench.timed(case, "compiled", lambda: pool(frames, lengths), *work)
    bench.timed(
        loss_case, "compiled", lambda: torch.autograd.grad(loss(*two, scale), two), *loss_work
    )


PEERS = {
    "times of files": time_files,
    "times of libraries": time_libraries,
    "times of compiled code": time_compiled,
}
