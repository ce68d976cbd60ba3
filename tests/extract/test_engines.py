"""However it ran, the cache is the same: one process, one a device, slices, a Ray cluster."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clusters import run_scene

from c4c.cache.inspect import damage
from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.core.records import Clip
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.engines import ray as engines
from c4c.extract.engines.ray import isolate
from c4c.extract.engines.run import run_with_engine


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
    make_shapes(here / "shapes", Recipe(seed=2, train=18, val=0, test=0))
    assert run_with_engine(settings(here, "local")).clips == 18
    return here


def test_a_process_a_device_makes_the_same_cache(here: Path) -> None:
    result = run_with_engine(settings(here, "devices", device="cpu,cpu"))
    assert (result.clips, result.complete) == (18, True)
    assert shards(here / "devices") == shards(here / "local")


def test_a_device_that_is_not_there_is_an_error_before_any_work(here: Path) -> None:
    with pytest.raises(C4CError, match="cuda:77"):
        run_with_engine(settings(here, "nowhere", device="cpu,cuda:77"))
    assert not (here / "nowhere").exists()


def on_ray(scene: str, here: Path) -> dict[str, object]:
    """What came of a scene of ``on_ray.py``."""
    return run_scene(Path(__file__).with_name("on_ray.py"), scene, here)


@pytest.mark.slow
@pytest.mark.shows("extract", "--engine", "--address")
def test_a_cluster_that_loses_a_node_makes_the_same_cache(here: Path) -> None:
    assert on_ray("lose", here) == {"clips": 18, "complete": True, "failed": []}
    assert shards(here / "lose") == shards(here / "local")
    assert list(damage(here / "lose")) == []
    # A node that dies while it writes may leave a temporary file, and nothing else.
    assert all(path.suffix == ".tmp" for path in (here / "lose" / "tmp").iterdir())


@pytest.mark.slow
def test_a_clip_that_kills_its_process_fails_alone_on_a_cluster(here: Path) -> None:
    found = on_ray("poison", here)
    local = Cache.open(here / "local").clips()
    bad = local.ids[4]
    assert (found["clips"], found["complete"]) == (17, True)
    assert found["failed"] == [[bad, "the process that handled it died, whenever tried"]]
    same = [name for name, data in clip_shards(here / "poison").items()
            if data == clip_shards(here / "local")[name]]  # fmt: skip
    assert len(same) == 5
    mine = Cache.open(here / "poison").clips()
    for place, name in enumerate(mine.ids):
        theirs = local.read(local.ids.index(name))[0]
        assert np.array_equal(mine.read(place)[0], theirs)


def clip_shards(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cache / "shards").rglob("clips/*.h5")}


def test_no_cluster_there_is_one_line(here: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(C4CError, match="No Ray cluster at 127.0.0.1:9") as caught:
        run_with_engine(settings(here, "none", engine="ray", address="127.0.0.1:9"))
    assert "\n" not in str(caught.value)


def test_what_a_task_raises_is_told_and_blames_no_clip(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(config: ExtractConfig) -> None:
        raise OSError(24, "Too many open files\nat the worst moment")

    monkeypatch.setattr(engines, "_worker_backbone", full)
    words = engines._extract_on_worker(settings(here, "raised"), [Clip("1", "/videos/1.mp4")], None)
    assert "OSError" in str(words) and "Too many open files at the worst moment" in str(words)
    assert "\n" not in str(words)


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
