"""What the tests of the Ray engine run in a process of its own: ``on_ray.py lose|poison FOLDER``.

A cluster of two nodes on this machine carries out the plan of ``FOLDER/shapes``.
"""

import json
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from c4c.cli.app import group
from c4c.core.records import Clip
from c4c.extract.config import ExtractConfig
from c4c.extract.engines import ray as engine
from c4c.extract.engines.ray import _Tasks
from c4c.extract.pipeline import prepare, summary

DRIVER = os.getpid()


class Poison(Clip):
    """A clip that ends the process of the cluster which hands it on to a decoder."""

    def __reduce__(self) -> tuple[Any, ...]:
        if os.getpid() != DRIVER:
            os.abort()
        return Poison, (self.id, self.path, self.start, self.end)


def typed(cluster: Cluster, config: ExtractConfig) -> Any:
    """The command as a user types it."""
    args = ["extract", "--dataset", "shapes", "--root", str(config.root), "--split", "train"]
    args += ["--cache", str(config.cache), "--backbone", "tiny", "--workers", "1"]
    args += ["--shard-clips", "3", "--engine", "ray", "--address", cluster.address]
    if code := group.main(args, standalone_mode=False):
        raise SystemExit(code)
    folder, manifests, _ = prepare(config)
    return summary(folder, manifests)


def lose(cluster: Cluster, node: Any, config: ExtractConfig) -> Any:
    """A node is killed when some shards are there, while the command runs that a user types."""
    assert config.cache is not None

    def kill() -> None:
        while len(list((config.cache / "shards").rglob("*.h5"))) < 2:  # type: ignore[operator]
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=kill, daemon=True).start()
    return typed(cluster, config)


def poison(cluster: Cluster, node: Any, config: ExtractConfig) -> Any:
    """One clip of the plan kills whoever handles it."""
    engine._RETRIES = 0  # each takes a new process, which imports everything
    ray.init(address=config.address, log_to_driver=False)
    cache, (manifest,), _ = prepare(config)
    clips = list(manifest.clips)
    bad = clips[4]
    clips[4] = Poison(bad.id, bad.path, bad.start, bad.end)
    tasks = _Tasks(ray, cache, replace(manifest, clips=tuple(clips)), config)
    tasks.run()
    return summary(cache, [manifest])


def main(scene: str, here: Path) -> None:
    """Run a scene; what came of it as a line of JSON."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        config = ExtractConfig(
            dataset="shapes", root=here / "shapes", cache=here / scene, splits=("train",),
            backbone="tiny", workers=1, shard_clips=3, engine="ray", address=cluster.address,
        )  # fmt: skip
        result = {"lose": lose, "poison": poison}[scene](cluster, node, config)
        failed = [[failure.clip_id, failure.message] for failure in result.failed]
        print(json.dumps({"clips": result.clips, "complete": result.complete, "failed": failed}))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
