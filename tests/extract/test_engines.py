"""However it ran, the cache is the same: one process, one a device, slices, a Ray cluster."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from c4c.errors import C4CError
from c4c.extract.config import ExtractConfig, ExtractResult
from c4c.extract.datasets.shapes import Recipe, make_shapes
from c4c.extract.engines import isolate, run_with_engine
from c4c.extract.inspect import damage
from c4c.records import Clip


def settings(here: Path, cache: str, **changes: object) -> ExtractConfig:
    own: dict[str, object] = {"backbone": "tiny", "workers": 1, "shard_clips": 3, **changes}
    return ExtractConfig(
        dataset="shapes", root=here / "shapes", cache=here / cache, splits=("train",), **own
    )  # type: ignore[arg-type]


def shards(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cache / "shards").rglob("*.h5")}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("engines")
    make_shapes(here / "shapes", Recipe(seed=2, train=36, val=0, test=0))
    assert run_with_engine(settings(here, "local")).clips == 36
    return here


def test_a_process_a_device_makes_the_same_cache(here: Path) -> None:
    result = run_with_engine(settings(here, "devices", device="cpu,cpu"))
    assert (result.clips, result.complete) == (36, True)
    assert shards(here / "devices") == shards(here / "local")


def test_a_device_that_is_not_there_is_an_error_before_any_work(here: Path) -> None:
    with pytest.raises(C4CError, match="cuda:77"):
        run_with_engine(settings(here, "nowhere", device="cpu,cuda:77"))
    assert not (here / "nowhere").exists()


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_makes_the_same_cache(here: Path) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        config = settings(here, "ray", engine="ray", address=cluster.address)
        results: list[ExtractResult] = []
        run = threading.Thread(target=lambda: results.append(run_with_engine(config)), daemon=True)
        run.start()
        begun = time.monotonic()
        while len(shards(here / "ray")) < 4 and time.monotonic() - begun < 60:
            time.sleep(0.01)
        cluster.remove_node(second, allow_graceful=False)
        assert len(shards(here / "ray")) < 12 + 3  # captions have shards too
        run.join(120)
    finally:
        cluster.shutdown()
    assert [(result.clips, result.complete) for result in results] == [(36, True)]
    assert shards(here / "ray") == shards(here / "local")
    assert list(damage(here / "ray")) == []
    assert list((here / "ray" / "tmp").iterdir()) == []


def test_no_cluster_there_is_one_line(here: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(C4CError, match="No Ray cluster at 127.0.0.1:9") as caught:
        run_with_engine(settings(here, "none", engine="ray", address="127.0.0.1:9"))
    assert "\n" not in str(caught.value)


def test_clips_that_kill_their_process_are_found_and_no_others() -> None:
    """Each try is a process of its own, which such a clip really ends."""
    clips = [Clip(f"{number}", f"/videos/{number}.mp4") for number in range(20)]
    tries = 0

    def survives(some: list[Clip]) -> bool:
        nonlocal tries
        tries += 1
        ids = ",".join(clip.id for clip in some)
        script = "import os, sys; {'3', '17'} & {*sys.argv[1].split(',')} and os.abort()"
        return subprocess.run([sys.executable, "-S", "-c", script, ids]).returncode == 0

    assert isolate(clips, survives) == {"3", "17"}
    assert tries < 20
