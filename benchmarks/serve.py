"""Questions answered together against one after the other, and a server under load.

    python benchmarks/serve.py CACHE [--clients 50] [--seconds 20]

The first figure is below HTTP: as many questions as there are clients wait, and the batcher
answers them together; beside it each alone by the same searcher. The second is over HTTP on
loopback: clients that ask without a pause.
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import threading
import time

import click
import uvicorn
from figures import json_option, show  # benchmarks/figures.py

from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.retrieval.asking import Ask
from c4c.serve.app import make_app
from c4c.serve.batching import Batcher, Options
from c4c.serve.client import Client
from c4c.serve.library import Library


def together(library: Library, queries: list[str]) -> tuple[float, float]:
    """Seconds for all queries one after the other, and by the batcher."""
    searcher = library.gallery(None).searcher  # type: ignore[union-attr]
    searcher(queries[0])
    began = time.perf_counter()
    for query in queries:
        searcher(query)
    alone = time.perf_counter() - began
    batcher = Batcher(searcher)
    began = time.perf_counter()
    waiting = [batcher.ask(Ask((query,)), Options()) for query in queries]
    for one in waiting:
        one.result()
    batched = time.perf_counter() - began
    batcher.close()
    return alone, batched


def load(url: str, queries: list[str], seconds: float) -> tuple[list[float], int]:
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
    return times, len(errors)


@click.command()
@json_option
@click.argument("cache")
@click.option("--clients", default=50, show_default=True)
@click.option("--seconds", default=20.0, show_default=True)
def main(cache: str, clients: int, seconds: float) -> None:
    """Print the figures, with the machine's load."""
    texts = [one.text for m in Cache.open(cache).manifests.values() for one in m.captions]
    queries = [texts[place % len(texts)] for place in range(clients)]
    library = Library.open([cache])
    gallery = library.gallery(None).searcher.gallery  # type: ignore[union-attr]
    show({"clips": len(gallery), "windows": gallery.windows, "cores": os.cpu_count()})
    rounds = sorted(a / b for a, b in (together(library, queries) for _ in range(3)))
    faster = round(statistics.median(rounds), 2)
    show({"waiting": clients, "times faster together": faster, "rounds": [rounds[0], rounds[-1]]})
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(library), log_level="warning"))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    load(url, queries[:4], 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times, errors = load(url, queries, seconds)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    p99 = sorted(times)[int(0.99 * len(times))]
    rate = len(times) / seconds
    show(
        {
            "clients": clients,
            "seconds": seconds,
            "answers a second": round(rate, 1),
            "median ms": round(1000 * statistics.median(times)),
            "p99 ms": round(1000 * p99),
            "errors": errors,
            "peak MB more": round(grown),
            "load of the machine": round(os.getloadavg()[0], 1),
        }
    )
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    main()
