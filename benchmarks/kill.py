"""kill -9 at random moments: is every standing shard whole, and the finished cache the same?

    python benchmarks/kill.py --kills 100 --json FILE

Extraction is killed, in turn, at a moment drawn from its whole duration, and in a commit: as soon
as a file shows up in ``tmp/``, or up to 3 ms later. A kill that fell inside a commit leaves that
file behind; how many did is counted, not assumed. After each kill every shard that stands must
equal, byte for byte, the shard of an undisturbed run, none that stood before may be gone, and
``c4c cache verify`` may name nothing but what is still missing. When a cache is complete a fresh
one is begun. At last two runs at once finish the cache; it must equal the undisturbed one too.
Any difference: exit 1.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import click

from c4c.cache.inspect import damage
from c4c.core.files import write_json
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.shapes import Recipe, make_shapes
from c4c.extract.pipeline import run_extract


def extract(root: Path, cache: Path) -> None:
    """What is killed: the extraction. Its decoders end by themselves when it has."""
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    run_extract(
        ExtractConfig(
            dataset="shapes", root=root, cache=cache, splits=("train",), backbone="tiny",
            workers=1, shard_clips=2, device="cpu",
        )
    )  # fmt: skip


def start(root: Path, cache: Path) -> BaseProcess:
    """Begin an extraction in a process that has torch imported and nothing else done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["c4c.extract.pipeline", "c4c.extract.backbone.backbone", "open_clip"]
    )
    process = context.Process(target=extract, args=(root, cache))
    process.start()
    return process


def finish(*processes: BaseProcess) -> None:
    """Wait; an extraction that fails undisturbed ends the benchmark."""
    for process in processes:
        process.join(120)
        if process.exitcode != 0:
            raise SystemExit(f"extraction ended with {process.exitcode}")


def shards(cache: Path) -> dict[str, bytes]:
    """Every shard that stands: its name below the cache, and its bytes."""
    return {str(p.relative_to(cache)): p.read_bytes() for p in (cache / "shards").rglob("*.h5")}


def wait_for_commit(cache: Path, process: BaseProcess, draw: random.Random) -> None:
    """Return when one of the next files appears in ``tmp/``, or up to 3 ms later."""
    skip = draw.randrange(10)
    seen = aside(cache)
    while process.is_alive():
        fresh = aside(cache) - seen
        seen |= fresh
        skip -= len(fresh)
        if fresh and skip < 0:
            break
    time.sleep(draw.choice([0, 0, draw.random() * 0.003]))


def aside(cache: Path) -> set[str]:
    """Files that are being written, or were when a run was killed."""
    try:
        return set(os.listdir(cache / "tmp"))
    except FileNotFoundError:
        return set()


def kill(process: BaseProcess) -> bool:
    """Kill -9; false when it had ended by itself."""
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


def wrong_after(cache: Path, stood: dict[str, bytes], whole: dict[str, bytes]) -> list[str]:
    """What a kill has damaged, a line each."""
    now = shards(cache)
    found = [f"{name} is gone" for name in stood if name not in now]
    found += [f"{name} differs" for name, data in now.items() if whole.get(name) != data]
    if (cache / "cache.json").exists():
        found += [line for line in damage(cache) if " is missing; " not in line]
    return found


@click.command()
@click.option("--kills", default=100, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--clips", default=60, show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(kills: int, seed: int, clips: int, path: Path | None) -> None:
    """Kill, look, and count."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        root = here / "shapes"
        make_shapes(root, Recipe(seed=3, train=clips, val=0, test=0))
        finish(start(root, here / "warm"))
        began = time.monotonic()
        finish(start(root, here / "undisturbed"))
        span = time.monotonic() - began
        whole = shards(here / "undisturbed")
        count = {"random": 0, "commit": 0, "inside a commit": 0, "caches completed": 0}
        wrong: list[str] = []
        number, done = 0, 0
        while done < kills:
            cache = here / f"cache-{number}"
            stood, before = shards(cache), aside(cache)
            process = start(root, cache)
            how = ("random", "commit")[done % 2]
            if how == "commit":
                wait_for_commit(cache, process, draw)
            else:
                process.join(draw.random() * span)
            if kill(process):
                done += 1
                count[how] += 1
                count["inside a commit"] += bool(aside(cache) - before)
            wrong += [f"kill {done} ({how}): {line}" for line in wrong_after(cache, stood, whole)]
            if len(shards(cache)) == len(whole):
                count["caches completed"] += 1
                number += 1
        cache = here / f"cache-{number}"
        finish(start(root, cache), start(root, cache))
        if shards(cache) != whole or list(damage(cache)):
            wrong.append("the completed cache differs from the undisturbed one")
        found = {"kills": done, "seed": seed, "shards": len(whole), "span_s": round(span, 2)}
        found |= {**count, "wrong": wrong}
    click.echo(json.dumps(found, indent=1))
    if path:
        write_json(path, found)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
