"""The contrastive loss, forward and backward, against two cross-entropies of the matrix.

python benchmarks/contrastive.py [--batch 4096]
"""

import statistics
import time
from collections.abc import Callable

import click
import torch
from figures import json_option, show
from topk import peak_bytes  # benchmarks/topk.py
from torch import Tensor
from torch.nn.functional import normalize

from c4c.kernels import contrastive_loss
from c4c.kernels.contrastive.naive import contrastive_loss_reference

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def seconds(loss: Loss, inputs: tuple[Tensor, Tensor, Tensor]) -> float:
    """How long one forward and backward takes."""
    begin = time.perf_counter()
    torch.autograd.grad(loss(*inputs), inputs)
    return time.perf_counter() - begin


@click.command()
@json_option
@click.option("--batch", default=4096, show_default=True)
@click.option("--dim", default=512, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(batch: int, dim: int, threads: int, repeats: int) -> None:
    """Print one JSON line: seconds, the median ratio, and the growth of peak memory."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    text, video = (normalize(torch.randn(batch, dim, generator=generator), dim=1) for _ in "tv")
    scale = torch.tensor(100.0, requires_grad=True)
    inputs = (text.requires_grad_(), video.requires_grad_(), scale)
    # Threads and libraries set themselves up in the first call.
    for loss in (contrastive_loss, contrastive_loss_reference):
        seconds(loss, (text[:64], video[:64], scale))
    peak_own, _ = peak_bytes(lambda: seconds(contrastive_loss, inputs))
    peak_plain, _ = peak_bytes(lambda: seconds(contrastive_loss_reference, inputs))
    own, plain = [], []
    for _ in range(repeats):
        own.append(seconds(contrastive_loss, inputs))
        plain.append(seconds(contrastive_loss_reference, inputs))
    show(
        {
            "batch": batch,
            "c4c seconds": round(statistics.median(own), 4),
            "times faster than torch": round(
                statistics.median(p / o for p, o in zip(plain, own, strict=True)), 2
            ),
            "peak MB of c4c": round(peak_own / 1e6, 1),
            "peak MB of torch": round(peak_plain / 1e6, 1),
        }
    )


if __name__ == "__main__":
    main()
