"""Achieved bandwidth and TFLOP/s of the Triton kernels, against measured ceilings.

Needs a GPU; says so and stops (status 0) without one. The ceilings are measured in the
same run: a large matrix product in the same dtype, and a copy of device memory.

    python benchmarks/gpu.py [--rows 1000000 --queries 1000]
"""

import click
import torch
from figures import json_option, show
from torch.nn.functional import normalize

from c4c.kernels import contrastive_loss, ground_truth_ranks, masked_mean_pool, topk_similarity


def bench(name: str, work: object, flops: float, size: float, ceilings: dict[str, float]) -> None:
    """Time ``work`` on the GPU and print it as a share of both ceilings, a JSON line."""
    from triton.testing import do_bench

    milliseconds = float(do_bench(work))
    tflops, gigabytes = flops / milliseconds / 1e9, size / milliseconds / 1e6
    line = {
        "kernel": name,
        "milliseconds": round(milliseconds, 3),
        "TFLOP/s": round(tflops, 1),
        "share of product": round(tflops / ceilings["tflops"], 3),
        "GB/s": round(gigabytes, 1),
        "share of copy": round(gigabytes / ceilings["gigabytes"], 3),
    }
    show(line)


def ceilings_of(dtype: torch.dtype) -> dict[str, float]:
    """TFLOP/s of an 8192-cubed product and GB/s of a copy of one gigabyte."""
    from triton.testing import do_bench

    a = torch.randn(8192, 8192, device="cuda").to(dtype)
    source = torch.empty(1 << 29, device="cuda", dtype=torch.int16)
    target = torch.empty_like(source)
    return {
        "tflops": 2 * 8192**3 / float(do_bench(lambda: a @ a)) / 1e9,
        "gigabytes": 2 * source.nbytes / float(do_bench(lambda: target.copy_(source))) / 1e6,
    }


@click.command()
@json_option
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--queries", default=1000, show_default=True)
@click.option("--dim", default=512, show_default=True)
@click.option("--batch", default=16_384, show_default=True, help="Pairs of the loss.")
def main(rows: int, queries: int, dim: int, batch: int) -> None:
    """Print the ceilings and one JSON line a kernel."""
    if not torch.cuda.is_available():
        click.echo("No GPU here; nothing was measured.", err=True)
        return
    dtype = torch.bfloat16
    ceilings = ceilings_of(dtype)
    show({"device": torch.cuda.get_device_name(), **ceilings})
    gallery = normalize(torch.randn(rows, dim, device="cuda"), dim=1).to(dtype)
    texts = normalize(torch.randn(queries, dim, device="cuda"), dim=1).to(dtype)
    flops, size = 2.0 * rows * queries * dim, 2.0 * rows * dim
    for k in (1, 10, 100):
        bench(f"topk k={k}", lambda k=k: topk_similarity(texts, gallery, k), flops, size, ceilings)
    bench("torch mm + topk", lambda: (texts @ gallery.T).topk(10, 1), flops, size, ceilings)
    right = torch.arange(queries)
    bench("ranks", lambda: ground_truth_ranks(texts, gallery, right), flops, size, ceilings)
    packed = gallery[: rows // 12 * 12]
    offsets = torch.arange(0, len(packed) + 1, 12, device="cuda")
    moved = 2.0 * packed.numel() * 13 / 12
    bench("pool", lambda: masked_mean_pool(packed, offsets=offsets), 0.0, moved, ceilings)
    pairs = [normalize(torch.randn(batch, dim, device="cuda"), dim=1).to(dtype) for _ in "tv"]
    text, video = (x.requires_grad_() for x in pairs)
    # Useful products: the logits, and one for each gradient; the logits made again do not count.
    passes = 3

    def step() -> None:
        torch.autograd.grad(contrastive_loss(text, video, 100.0), (text, video))

    bench("contrastive", step, passes * 2 * batch**2 * dim, 0.0, ceilings)


if __name__ == "__main__":
    main()
