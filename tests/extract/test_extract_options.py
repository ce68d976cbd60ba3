"""What the options of an extraction promise, through the command that a user types."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from c4c.cache.inspect import damage
from c4c.cache.open import Cache, create_cache
from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips of shapes in a folder, and two files that are no videos."""
    here = tmp_path_factory.mktemp("options")
    make_shapes(here / "shapes", Recipe(seed=4, train=6, val=0, test=0))
    (here / "videos").mkdir()
    found = sorted((here / "shapes").rglob("*.mp4"))[:5]
    for number, path in enumerate(found):
        (here / "videos" / f"{number}.mp4").write_bytes(path.read_bytes())
    for name in ("x", "y"):
        (here / "videos" / f"{name}.mp4").write_bytes(f"no video {name}".encode() * 100)
    return here


def extract(here: Path, cache: Path, *options: str) -> tuple[int, str]:
    """Exit status, and what was said; ``main`` makes a line and status 2 of our own errors."""
    command = ["extract", "--dataset", "folder", "--root", str(here / "videos")]
    command += ["--cache", str(cache), "--backbone", "tiny", "--workers", "1", "--device", "cpu"]
    done = CliRunner().invoke(group, [*command, *options])
    if isinstance(done.exception, C4CError):
        return 2, str(done.exception)
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def cache(here: Path) -> Path:
    assert extract(here, here / "cache", "--batch", "16")[0] == 3
    return here / "cache"


def copy(cache: Path, target: Path, batch: int | None) -> Path:
    """An empty cache that was begun like ``cache``, but for the batch."""
    create_cache(target, "folder", replace(Cache.open(cache).fingerprint, batch=batch))
    return target


@pytest.mark.shows("extract", "--batch")
def test_the_batch_is_recorded_and_another_one_refused(here: Path, cache: Path) -> None:
    assert Cache.open(cache).fingerprint.batch == 16
    code, words = extract(here, cache, "--batch", "32")
    assert code == 2
    assert "batch: 32, 16" in words


def test_without_a_batch_an_extraction_goes_on_in_the_one_it_was_begun_with(
    here: Path, cache: Path, tmp_path: Path
) -> None:
    again = copy(cache, tmp_path / "again", 16)
    assert extract(here, again)[0] == 3
    assert shards(again) == shards(cache)


def test_a_cache_that_does_not_say_its_batch_takes_any(
    here: Path, cache: Path, tmp_path: Path
) -> None:
    old = copy(cache, tmp_path / "old", None)
    content = json.loads((old / "cache.json").read_text())
    del content["fingerprint"]["batch"]  # as older versions wrote it
    (old / "cache.json").write_text(json.dumps(content))
    assert extract(here, old, "--batch", "16")[0] == 3
    assert extract(here, old, "--batch", "8")[0] == 3
    # Its shards are bound to a cache that says no batch; what they hold is the same.
    mine, theirs = Cache.open(old).clips(), Cache.open(cache).clips()
    assert mine.ids == theirs.ids
    for place in range(len(mine.ids)):
        assert mine.read(place)[0].tobytes() == theirs.read(place)[0].tobytes()


def shards(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cache / "shards").rglob("*.h5")}


@pytest.mark.shows("extract", "--max-fail-rate")
def test_too_many_failures_stop_the_run(here: Path, tmp_path: Path) -> None:
    code, words = extract(here, tmp_path / "cache", "--max-fail-rate", "0.2")
    assert code == 2
    assert "2 of 7 clips of" in words
    assert "--max-fail-rate 0.2" in words
    assert extract(here, tmp_path / "other", "--max-fail-rate", "0.3")[0] == 3


def test_a_slice_whose_clips_all_failed_exits_3(here: Path, tmp_path: Path) -> None:
    """Shards of one clip: the last slice of seven holds one that is no video."""
    options = ("--shard-clips", "1", "--slice", "6/7")
    code, words = extract(here, tmp_path / "cache", *options)
    assert code == 3
    assert "other slices are still to be done" in words


@pytest.mark.shows("extract", "--retry-failed")
def test_clips_that_failed_are_tried_again_when_asked(here: Path, tmp_path: Path) -> None:
    root = tmp_path / "own"
    (root / "videos").mkdir(parents=True)
    for path in (here / "videos").glob("[0x].mp4"):
        (root / "videos" / path.name).write_bytes(path.read_bytes())
    assert extract(root, tmp_path / "cache")[0] == 3
    good = (root / "videos" / "0.mp4").read_bytes()
    (root / "videos" / "x.mp4").write_bytes(good)
    code, _ = extract(root, tmp_path / "cache", "--retry-failed")
    assert code == 0
    clips = Cache.open(tmp_path / "cache").clips()
    assert clips.ids == ("0", "x")
    assert np.array_equal(clips.read(0)[0], clips.read(1)[0])
    assert list(damage(tmp_path / "cache")) == []


def test_closed_standard_files_do_not_get_between_frames(
    here: Path, cache: Path, tmp_path: Path
) -> None:
    """The decoder complains about what is no video; that must not land in shared memory."""
    command = [sys.executable, "-m", "c4c", "extract", "--dataset", "folder", "--workers", "1"]
    command += ["--root", str(here / "videos"), "--cache", str(tmp_path / "cache")]
    command += ["--backbone", "tiny", "--device", "cpu", "--batch", "16"]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], timeout=300)
    assert done.returncode == 3
    assert shards(tmp_path / "cache") == shards(cache)


@pytest.mark.shows("extract", "--precision")
def test_the_precision_asked_for_is_the_one_recorded(here: Path, tmp_path: Path) -> None:
    assert extract(here, tmp_path / "half", "--precision", "bfloat16")[0] == 3
    assert Cache.open(tmp_path / "half").fingerprint.dtype == "bfloat16"
    assert extract(here, tmp_path / "half")[0] == 3  # it goes on in the precision of the cache
    assert Cache.open(tmp_path / "half").fingerprint.dtype == "bfloat16"


@pytest.mark.shows("cache export", "--format", "--out")
@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_what_is_exported_is_what_the_cache_holds(cache: Path, tmp_path: Path, kind: str) -> None:
    command = ["cache", "export", str(cache), "--format", kind, "--out", str(tmp_path)]
    done = CliRunner().invoke(group, command)
    assert done.exit_code == 0, done.output
    clips = Cache.open(cache).clips()
    rows = [clips.read(place)[0] for place in range(len(clips))]
    ids, found = exported(tmp_path, kind)
    assert ids == list(clips.ids)
    assert len(found) == 5
    for mine, theirs in zip(rows, found, strict=True):
        assert np.array_equal(mine.ravel(), theirs.ravel())


def exported(folder: Path, kind: str) -> tuple[list[str], list[np.ndarray]]:
    """Ids and features, read without our code."""
    if kind == "npy":
        features, offsets = (
            np.load(next(folder.glob(f"*.{what}.npy"))) for what in ("features", "offsets")
        )
        lines = next(folder.glob("*.jsonl")).read_text().splitlines()
        return [json.loads(line)["id"] for line in lines], np.split(features, offsets[1:-1])
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(next(folder.glob("*.parquet"))).to_pylist()
    return [row["id"] for row in table], [np.array(row["features"], np.float16) for row in table]


@pytest.mark.slow
@pytest.mark.shows("extract", "--compile", "--backend")
def test_compiled_features_are_as_good_and_do_not_mix_with_others(
    here: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "put back as it was")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    assert extract(here, tmp_path / "compiled", "--batch", "16", "--compile")[0] == 3
    # Compiled code is loaded again only from where no other user writes.
    assert any((tmp_path / "own" / "c4c" / "compiled").rglob("*.so"))
    assert "--backend compile" in extract(here, tmp_path / "compiled", "--backend", "torch")[1]
    mine, theirs = (Cache.open(path).clips() for path in (tmp_path / "compiled", cache))
    assert mine.ids == theirs.ids
    for place in range(len(mine)):
        a, b = (view.read(place)[0].astype(np.float64) for view in (mine, theirs))
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        assert cosine.min() > 0.999
