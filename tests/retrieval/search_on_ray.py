"""What the test of search on a cluster runs in a process of its own: ``search_on_ray.py CACHE``.

A cluster on this machine is asked as a user types it, and as a program asks it; then a process
of it is killed. Prints the hits of each as JSON.
"""

import io
import json
import sys
from contextlib import redirect_stdout
from typing import Any

import ray
from ray.cluster_utils import Cluster

from c4c.cli.app import group
from c4c.retrieval.filters import Filter
from c4c.retrieval.searcher import Searcher

QUERIES = ["a red circle moves left", "a white cross grows"]


def typed(cache: str, *options: str) -> list[Any]:
    """Hits of the command."""
    out = io.StringIO()
    with redirect_stdout(out):
        group.main(["retrieve", "--cache", cache, *options, QUERIES[0]], standalone_mode=False)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def asked(searcher: Searcher) -> list[Any]:
    """Hits of two questions, and of one among some clips."""
    plain = [[hit.as_dict() for hit in hits] for hits in searcher.stream(QUERIES, 7)]
    return [*plain, [hit.as_dict() for hit in searcher(QUERIES[0], where=Filter(path="*val*"))]]


def main(cache: str) -> None:
    """Ask in every way."""
    found = {"typed here": typed(cache)}
    with Searcher(cache, device="cpu") as searcher:
        found["here"] = asked(searcher)
        pieces = len(searcher.gallery.pieces)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        found["typed"] = typed(cache, "--engine", "ray", "--address", cluster.address)
        with Searcher(cache, device="cpu", engine="ray", address=cluster.address) as searcher:
            found["there"] = asked(searcher)
            assert searcher._answers and searcher._answers._cluster
            ray.kill(searcher._answers._cluster._actors[1][2])
            found["one lost"] = asked(searcher)
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps({"pieces": pieces, **found}))


if __name__ == "__main__":
    main(sys.argv[1])
