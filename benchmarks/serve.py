"""Questions answered together against one after the other, and a server under load.

    python benchmarks/serve.py [CACHE] [--clients 50] [--seconds 20] [--videos 3000]

The first figure is below HTTP: as many questions as there are clients wait, and the batcher
answers them together; beside it each alone by the same searcher. The second is over HTTP on
loopback: ``c4c serve``, and clients that ask without a pause in a process of their own; its
memory is read before and after. Where Playwright and Chromium are, the page's first paint is read
before. Without CACHE one is made, of features drawn at random: so many videos of a minute, a
frame a second.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import click
import numpy as np
from figures import anonymous, json_option, show  # benchmarks/figures.py

from c4c import CacheWriter, Client, Searcher
from c4c.core.errors import C4CError
from c4c.extract.backbone.load import load_backbone
from c4c.retrieval.asking import Ask
from c4c.retrieval.wanted import Wanted
from c4c.serve.batching import Batcher

QUERY = "a {} {} moves {}"
PARTS = (
    ["red", "green", "blue", "yellow", "purple", "orange", "white"],
    ["circle", "square", "triangle", "star", "ring", "cross"],
    ["left", "right", "up", "down", "fast", "slowly"],
)


def questions(count: int) -> list[str]:
    """Sentences that differ, as far as there are."""
    size = [len(part) for part in PARTS]
    drawn = [np.unravel_index(place % int(np.prod(size)), size) for place in range(count)]
    return [QUERY.format(*(PARTS[i][j] for i, j in enumerate(one))) for one in drawn]


def drawn_cache(folder: Path, videos: int) -> Path:
    """A cache of videos of a minute, whose features wander at random."""
    backbone = load_backbone("tiny", device="cpu")
    fingerprint = backbone.fingerprint("fps=1", "none", "final", 32)
    draw = np.random.default_rng(0)
    with CacheWriter(folder, "drawn", fingerprint) as writer:
        for number in range(videos):
            steps = draw.standard_normal((60, backbone.embed_dim), np.float32)
            name = f"video-{number:06d}"
            writer.add_clip(name, np.cumsum(steps, 0), np.arange(60.0), f"{name}.mp4")
    return folder


def together(searcher: Searcher, queries: list[str]) -> float:
    """How much faster the batcher answers questions that wait than one after the other."""
    searcher(queries[0])
    began = time.perf_counter()
    for query in queries:
        searcher(query)
    alone = time.perf_counter() - began
    batcher = Batcher(searcher)
    began = time.perf_counter()
    for waiting in [batcher.ask(Ask((query,)), Wanted()) for query in queries]:
        waiting.result()
    batched = time.perf_counter() - began
    batcher.close()
    return alone / batched


def load(url: str, queries: list[str], seconds: float) -> tuple[list[float], list[str]]:
    """Seconds of each answer, and errors, of a client for each query."""
    until, times, errors = time.monotonic() + seconds, [], []

    def ask(query: str) -> None:
        with Client(url) as client:
            while time.monotonic() < until:
                began = time.perf_counter()
                try:
                    client(query)
                    times.append(time.perf_counter() - began)
                except C4CError as error:
                    errors.append(str(error))

    threads = [threading.Thread(target=ask, args=(query,)) for query in queries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, errors


@contextmanager
def serving(cache: Path) -> Iterator[tuple[str, int]]:
    """``c4c serve`` in a process of its own: its address and the process."""
    with subprocess.Popen(
        [sys.executable, "-m", "c4c", "serve", str(cache), "--port", "0", "--device", "cpu"],
        stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stderr
        for line in server.stderr:
            print(line, end="", file=sys.stderr)
            if address := re.search(r"http://\S+", line):
                break
        yield address[0], server.pid
        server.terminate()


def under_load(url: str, process: int, queries: list[str], seconds: float) -> dict[str, float]:
    """What a server does while clients ask it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as asking:
        asking.submit(load, url, queries, min(5.0, seconds)).result()
        before = anonymous(process)
        times, errors = asking.submit(load, url, queries, seconds).result()
        busy, grown = os.getloadavg()[0], anonymous(process) - before
    return {
        "clients": len(queries),
        "seconds": seconds,
        "answers a second": round(len(times) / seconds, 1),
        "median ms": round(1000 * statistics.median(times)),
        "p99 ms": round(1000 * float(np.quantile(times, 0.99))),
        "errors": len(errors),
        "server MB more": round(grown, 1),
        "load of the machine": round(busy, 1),
    }


def painted(url: str) -> dict[str, float]:
    """The page in a browser that never saw it: its first paint, and what it transferred."""
    from playwright.sync_api import sync_playwright

    first, sizes = [], []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=shutil.which("chromium"))
        for _ in range(5):
            page = browser.new_context().new_page()
            page.goto(url, wait_until="load")
            page.wait_for_timeout(1000)
            first.append(page.evaluate(_PAINT))
            sizes.append(page.evaluate(_TRANSFER))
        browser.close()
    return {
        "first paint, ms": round(statistics.median(first)),
        "page, kB": round(max(sizes) / 1000),
    }


_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_TRANSFER = """[...performance.getEntriesByType('navigation'),
    ...performance.getEntriesByType('resource').filter(one => !one.name.includes('/api/'))]
    .map(one => one.transferSize).reduce((sum, size) => sum + size, 0)"""


@click.command()
@json_option
@click.argument("cache", required=False, type=click.Path(path_type=Path))
@click.option("--clients", default=50, show_default=True)
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--videos", default=3000, show_default=True, help="Of the cache that is made.")
def main(cache: Path | None, clients: int, seconds: float, videos: int) -> None:
    """Print the figures, with the machine's load."""
    queries = questions(clients)
    with tempfile.TemporaryDirectory() as folder:
        cache = cache or drawn_cache(Path(folder) / "cache", videos)
        with Searcher(cache, device="cpu") as searcher:
            gallery = searcher.gallery
            show({"clips": len(gallery), "windows": gallery.windows, "cores": os.cpu_count()})
            rounds = sorted(together(searcher, queries) for _ in range(5))
        faster = [round(one, 2) for one in rounds]
        show({"waiting": clients, "times faster together": faster[2], "rounds": faster})
        with serving(cache) as (url, process):
            if importlib.util.find_spec("playwright") and shutil.which("chromium"):
                show(painted(url))
            show(under_load(url, process, queries, seconds))


if __name__ == "__main__":
    main()
