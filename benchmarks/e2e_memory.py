"""Peak memory of an end-to-end step: gradient caching against the whole batch at once.

python benchmarks/e2e_memory.py [--backbone ViT-B-32] [--batch 128] [--frames 12] [--micro-batch 8]

Each setting runs in a process of its own, whose largest resident memory is read when it ends.
The whole batch at once does not fit into a common machine, so it is measured at two small
sizes; its memory is a line in the number of pairs, and the line is drawn on to ``--batch``.
"""

import json
import resource
import subprocess
import sys
import time

import click
import torch
from figures import json_option
from train_step import own_step, plain_step  # benchmarks/train_step.py

from c4c.extract.backbone.load import load_backbone

_SMALL = (8, 16)  # pairs: the sizes at which the whole batch at once is measured


def measure(backbone: str, batch: int, frames: int, micro: int, *flags: str) -> dict[str, float]:
    """Peak resident GB of a process that takes one step, and the step's seconds."""
    command = [sys.executable, __file__, "--backbone", backbone, "--batch", str(batch)]
    command += ["--frames", str(frames), "--micro-batch", str(micro), "--one", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def one(backbone: str, batch: int, frames: int, micro: int, layers: bool) -> dict[str, float]:
    """What ``measure`` runs; no micro-batch is the authors' step."""
    torch.manual_seed(0)
    loaded = load_backbone(backbone, "none", "cpu", "float32")
    if micro:
        step = own_step(loaded, batch, frames, micro_batch=micro, grad_checkpointing=layers)
    else:
        step = plain_step(loaded, batch, frames)
    begin = time.perf_counter()
    step()
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"GB": peak / 1e9, "seconds": seconds}


@click.command()
@json_option
@click.option("--backbone", default="ViT-B-32", show_default=True)
@click.option("--batch", default=128, show_default=True)
@click.option("--frames", default=12, show_default=True)
@click.option("--micro-batch", default=8, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--layers", is_flag=True, hidden=True, help="With --grad-checkpointing.")
@click.option("--one", "alone", is_flag=True, hidden=True, help="A single setting.")
def main(
    backbone: str,
    batch: int,
    frames: int,
    micro_batch: int,
    threads: int,
    layers: bool,
    alone: bool,
) -> None:
    """Print a JSON line a setting: GB and seconds of one step."""
    torch.set_num_threads(threads)
    if alone:
        print(json.dumps(one(backbone, batch, frames, micro_batch, layers)))
        return
    small = [measure(backbone, size, frames, 0)["GB"] for size in _SMALL]
    per_pair = (small[1] - small[0]) / (_SMALL[1] - _SMALL[0])
    plain = small[0] + per_pair * (batch - _SMALL[0])
    shared: dict[str, object] = {"backbone": backbone, "frames": frames}
    for size, found in zip(_SMALL, small, strict=True):
        show = {**shared, "step": "whole batch", "batch": size, "GB": round(found, 2)}
        show(show)
    show = {**shared, "step": "whole batch (drawn on)", "batch": batch, "GB": round(plain, 2)}
    show(show)
    for flags in ((), ("--layers",)):
        found = measure(backbone, batch, frames, micro_batch, *flags)
        name = f"micro-batch {micro_batch}" + (", grad checkpointing" if flags else "")
        show = {**shared, "step": name, "batch": batch, "GB": round(found["GB"], 2)}
        show |= {"times less": round(plain / found["GB"], 1), "seconds": round(found["seconds"], 1)}
        show(show)


if __name__ == "__main__":
    main()
