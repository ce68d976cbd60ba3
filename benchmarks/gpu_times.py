"""The times of gpu.py: every kernel beside the ceilings of the same process, and its peers."""

from collections.abc import Callable
from typing import Any

import torch
from gpu_bench import DTYPES, HALVES, Bench
from torch import Tensor
from torch.nn.functional import cross_entropy

from c4c.kernels import contrastive_loss, ground_truth_ranks, masked_mean_pool, topk_similarity
from c4c.kernels.pool.naive import masked_mean_pool_reference
from c4c.kernels.topk import triton as topk_triton

# Queries whose scores a peer makes at a time.
AT_ONCE = 1000
# Kernels of a call that are told by name.
TOLD = 12
# What a CUDA program calls to launch a kernel, and to wait.
LAUNCHES = ("LaunchKernel",)
WAITS = ("StreamSynchronize", "DeviceSynchronize", "EventSynchronize")


def phases(bench: Bench, name: str, work: Callable[[], object]) -> None:
    """What a call's time is made of: kernels by name, launches, waits (those of profiling go)."""

    def figures() -> dict[str, Any]:
        from torch.profiler import ProfilerActivity, profile

        if not bench.rehearse:
            work()
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (not bench.rehearse)
        with profile(activities=kinds) as profiled:
            work()
        events = profiled.key_averages()
        counts = {
            what: sum(e.count for e in events if any(name in e.key for name in names))
            for what, names in {"launches": LAUNCHES, "waits": WAITS}.items()
        }
        own = "self_device_time_total" if not bench.rehearse else "self_cpu_time_total"
        spent = {e.key[:60]: round(getattr(e, own) / 1e3, 4) for e in events}
        largest = sorted(spent.items(), key=lambda pair: -pair[1])[:TOLD]
        return {"phases ms": dict(largest), **counts}

    bench.case(f"{name}: phases", figures)


def time_topk(bench: Bench) -> None:
    """One query to a test set of them, against product and top-k."""
    bench.machine()
    total, width = bench.size(1_000_000, 140), bench.size(512, 16)
    for name, dtype in bench.kinds({"bf16": torch.bfloat16, "fp32": torch.float32}).items():
        gallery = bench.rows(total, width, dtype)
        every = bench.rows(bench.size(59_800, 9), width, dtype, 1)
        for count in dict.fromkeys(min(one, len(every)) for one in (1, 32, AT_ONCE, 59_800)):
            if dtype != torch.float32 or count <= AT_ONCE:  # beyond, seconds of plain products
                time_search(bench, name, every[:count], gallery)
        if dtype == torch.float32 or bench.rehearse:
            mixed(bench, gallery, every)


def time_search(bench: Bench, name: str, queries: Tensor, gallery: Tensor) -> None:
    """These queries, with several k, and what the time is made of."""
    flops = 2.0 * len(queries) * gallery.numel()
    work = (gallery.dtype, flops, float(gallery.nbytes))
    called = f"{name}, Q = {len(queries):,}"
    for k in (10,) if len(queries) > AT_ONCE or bench.rehearse else (1, 10, 100):
        case = f"top-k, {called}, k = {k}"
        bench.timed(case, "c4c", lambda k=k: topk_similarity(queries, gallery, k), *work)
        bench.timed(case, "torch", lambda k=k: product_topk(queries, gallery, k), *work)
    first = queries[:2048]
    work = (gallery.dtype, 2.0 * len(first) * gallery.numel(), float(gallery.nbytes))
    bench.timed(
        f"first pass, {name}, Q = {len(first):,}",
        "c4c",
        lambda: topk_triton.group_maxima(first, gallery, 32),
        *work,
    )
    phases(bench, f"top-k, {called}, k = 10", lambda: topk_similarity(queries, gallery, 10))


def mixed(bench: Bench, gallery: Tensor, every: Tensor) -> None:
    """Queries in float32 over rows in half, and both in half: what search hands over."""
    some, rows = every[: min(len(every), AT_ONCE)], gallery.half()
    flops = 2.0 * len(some) * len(rows) * rows.shape[1]
    for name, queries in {"fp32 x fp16": some, "fp16": some.half()}.items():
        case = f"top-k, {name}, Q = {len(some):,}, k = 10"
        bench.timed(
            case, "c4c", lambda q=queries: topk_similarity(q, rows, 10), torch.float16, flops,
            float(rows.nbytes),
        )  # fmt: skip


def product_topk(queries: Tensor, gallery: Tensor, k: int) -> list[Any]:
    """Product and top-k in torch, so many queries at a time."""
    return [(part @ gallery.T).topk(k, 1) for part in queries.split(AT_ONCE)]


def time_ranks(bench: Bench) -> None:
    """Counting, against sorting the scores."""
    total, width = bench.size(100_000, 100), bench.size(512, 16)
    for name, dtype in bench.kinds(DTYPES).items():
        gallery = bench.rows(total, width, dtype)
        for count in (bench.size(1000, 4), bench.size(59_800, 6)):
            if dtype == torch.float32 and count > AT_ONCE:
                continue
            queries = bench.rows(count, width, dtype, 1)
            right = torch.arange(count, device=bench.device)
            case, flops = f"ranks, {name}, Q = {count:,}", 2.0 * count * total * width
            work = (dtype, flops, float(gallery.nbytes))
            bench.timed(
                case,
                "c4c",
                lambda q=queries, g=gallery, r=right: ground_truth_ranks(q, g, r),
                *work,
            )
            bench.timed(
                case, "torch", lambda q=queries, g=gallery, r=right: compared(q, g, r), *work
            )
            phases(bench, case, lambda q=queries, g=gallery, r=right: ground_truth_ranks(q, g, r))


def compared(queries: Tensor, gallery: Tensor, right: Tensor) -> list[Tensor]:
    """Ranks by comparing the whole matrix of scores, so many queries at a time; ties undecided."""
    ranks = []
    for some, own in zip(queries.split(AT_ONCE), right.split(AT_ONCE), strict=True):
        scores = some @ gallery.T
        ranks.append((scores > scores.gather(1, own[:, None])).sum(1) + 1)
    return ranks


def time_pool(bench: Bench) -> None:
    """Packed clips of a million, padded ones with gradients, against eager torch."""
    width = bench.size(512, 32)
    for name, dtype in bench.kinds({"fp16": torch.float16, "fp32": torch.float32}).items():
        clips = bench.size(1_000_000 if dtype == torch.float16 else 300_000, 10)
        frames = torch.randn(12 * clips, width, device=bench.device, dtype=dtype)
        offsets = torch.arange(0, len(frames) + 1, 12, device=bench.device)
        case, moved = f"pool, {name}, {clips:,} x 12", frames.nbytes * 13 / 12
        work = (dtype, 0.0, moved)
        bench.timed(case, "c4c", lambda f=frames, o=offsets: masked_mean_pool(f, offsets=o), *work)
        bench.timed(case, "a copy of the frames", lambda f=frames: f.clone(), *work)
        padded = frames[: len(frames) // 120 * 12].view(-1, 12, width)
        lengths = torch.full((len(padded),), 12, device=bench.device)
        case = f"pool, {name}, {len(padded):,} x 12 padded"
        work = (dtype, 0.0, padded.nbytes * 13 / 12)
        for by, pool in {"c4c": masked_mean_pool, "eager": masked_mean_pool_reference}.items():
            bench.timed(case, by, lambda p=padded, n=lengths, pool=pool: pool(p, n), *work)
            wanted = padded.detach().requires_grad_()
            # Frames are read twice and their gradients written; clips as much again.
            both = (dtype, 0.0, padded.nbytes * (3 + 4 / 12))
            bench.timed(
                f"{case}, with gradients",
                by,
                lambda p=wanted, n=lengths, pool=pool: torch.autograd.grad(pool(p, n).sum(), p),
                *both,
            )
            del wanted


def dense(text: Tensor, video: Tensor, scale: Tensor) -> Tensor:
    """The loss from the whole matrix, as it is commonly written."""
    logits = (text @ video.T).float() * scale
    labels = torch.arange(len(text), device=text.device)
    return (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2


def time_loss(bench: Bench) -> None:
    """Forward, and with gradients, against two cross-entropies of the matrix."""
    width, scale = bench.size(512, 32), torch.tensor(100.0, device=bench.device)
    for name, dtype in bench.kinds({**HALVES, "fp32": torch.float32}).items():
        for batch in (128, 1024, 4096, 16_384, 65_536) if not bench.rehearse else (8, 40):
            if batch > 16_384 and dtype != torch.bfloat16:
                continue
            text = bench.rows(batch, width, dtype, 1).requires_grad_()
            video = bench.rows(batch, width, dtype, 2).requires_grad_()
            flops, size = 2.0 * batch * batch * width, 2.0 * text.nbytes
            for by, loss in {"c4c": contrastive_loss, "dense": dense}.items():
                if by == "dense" and batch > 16_384:
                    continue
                case = f"loss, {name}, {batch:,} pairs"
                bench.timed(
                    f"{case}, forward",
                    by,
                    lambda loss=loss, t=text, v=video: loss(t.detach(), v.detach(), scale),
                    *(dtype, flops, size),
                )
                bench.timed(
                    f"{case}, with gradients",
                    by,
                    lambda loss=loss, t=text, v=video: torch.autograd.grad(
                        loss(t, v, scale), (t, v)
                    ),
                    *(dtype, 3 * flops, 2 * size),
                )
            if batch in (8, 4096, 16_384) and dtype != torch.float32:
                phases(
                    bench,
                    f"loss, {name}, {batch:,} pairs, with gradients",
                    lambda t=text, v=video: torch.autograd.grad(
                        contrastive_loss(t, v, scale), (t, v)
                    ),
                )


TIMES = {
    "times of top-k": time_topk,
    "times of ranks": time_ranks,
    "times of pooling": time_pool,
    "times of the loss": time_loss,
}
