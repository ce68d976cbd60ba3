"""What starting costs: CPU seconds of whole commands over those of ``import torch``, same run.

    python benchmarks/startup.py [--repeats 5] [--clips 10000] [--json FILE]

Caches of random features are written for the shipped ``tiny``, and for a plain CLIP and one whose
text tower open_clip holds apart, with random weights in files, which the user has named once.
Commands are started in turn, so that a busy machine slows all of them alike. The last figures are
of a searcher that is kept: milliseconds a query, the first one (which opens everything) left out.
CPU time is what a busy machine changes least; how much of it the sentence takes, and not the
gallery, is told too.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch
from figures import json_option, show  # benchmarks/figures.py

from c4c.cache.writer import CacheWriter
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.trusted import remember
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.retrieval.searcher import Searcher

QUERY = "a red circle moves left"
APART = "PE-Core-T-16-384"


def write_cache(folder: Path, name: str, weights: str | None, clips: int) -> Path:
    """A cache of random features that its backbone's text tower can search, with its gallery."""
    backbone = load_backbone(name, weights, "cpu")
    remember(backbone)
    drawn = np.random.default_rng(0)
    made = backbone.fingerprint("fps=1 max=None uniform", "none")
    with CacheWriter(folder, "random", made) as writer:
        for number in range(clips):
            features = drawn.standard_normal((8, backbone.embed_dim), np.float32)
            writer.add_clip(f"clip{number}", features, np.arange(8))
    with Searcher(folder, device="cpu") as searcher:
        searcher(QUERY)
    return folder


def cpu_seconds(command: list[str]) -> float:
    """Of a process and those below it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def second_query(cache: Path, queries: int = 50) -> dict[str, float]:
    """Median milliseconds of a query of a searcher that has answered one."""
    spent: dict[str, list[float]] = {"ms": [], "CPU ms": [], "CPU ms for the sentence": []}
    with Searcher(cache, device="cpu") as searcher:
        searcher(QUERY)
        for number in range(queries):
            began, cpu = time.perf_counter(), time.process_time()
            searcher(f"{QUERY} {number}")
            spent["CPU ms"].append(time.process_time() - cpu)
            spent["ms"].append(time.perf_counter() - began)
            cpu = time.process_time()
            searcher.encode([f"{QUERY} again {number}"])
            spent["CPU ms for the sentence"].append(time.process_time() - cpu)
    return {name: round(1000 * statistics.median(times), 2) for name, times in spent.items()}


@click.command()
@json_option
@click.option("--repeats", default=5, show_default=True, help="Starts of each command.")
@click.option("--clips", default=10_000, show_default=True, help="Clips of the caches.")
def main(repeats: int, clips: int) -> None:
    """Print a JSON line a command and a searcher."""
    with tempfile.TemporaryDirectory(prefix="c4c-startup-") as scratch:
        here = Path(scratch)
        os.environ["XDG_STATE_HOME"] = str(here / "state")
        torch.manual_seed(0)
        files = {name: str(here / f"{name}.safetensors") for name in ("ViT-B-32", APART)}
        for name, file in files.items():
            load_backbone(name, "none", "cpu", "float32").save(Path(file))
        time.sleep(3.1)  # a file that young would be hashed anew by each command
        caches = {
            name: write_cache(here / f"cache-{name}", name, file, clips)
            for name, file in {"tiny": None, **files}.items()
        }
        make_shapes(here / "shapes", Recipe(seed=0, train=4, val=0, test=0))
        c4c = [sys.executable, "-m", "c4c"]
        extract = [*c4c, "extract", str(here / "shapes/videos"), "--cache", str(here / "videos")]
        extract += ["--backbone", "ViT-B-32", "--pretrained", files["ViT-B-32"]]
        cpu_seconds([*extract, "--workers", "1"])
        commands = {"import torch": [sys.executable, "-c", "import torch"]}
        for name, cache in caches.items():
            commands[f"retrieve, {name}"] = [*c4c, "retrieve", QUERY, "--cache", str(cache)]
        commands["extract with nothing to do, ViT-B-32"] = [*extract, "--workers", "1"]
        spent: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(repeats):
            for name, command in commands.items():
                spent[name].append(cpu_seconds(command))
        bare = statistics.median(spent["import torch"])
        for name, times in spent.items():
            own = statistics.median(times)
            show({"command": name, "CPU s": round(own, 2), "over torch": round(own - bare, 2)})
        for name, cache in caches.items():
            row = {"searcher": name, "clips": clips, **second_query(cache)}
            show({**row, "threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
