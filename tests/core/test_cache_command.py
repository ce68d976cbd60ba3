"""What the options of ``c4c cache`` and ``c4c doctor`` do, through the commands themselves."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from c4c.cache.open import Cache
from c4c.cli.app import group


def run(*args: str) -> Result:
    return CliRunner().invoke(group, args, catch_exceptions=False)


@pytest.fixture
def copy(shapes_cache: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shapes_cache, tmp_path / "cache"))


@pytest.mark.shows("cache info", "--json")
def test_what_a_cache_holds_is_said_in_lines_or_as_json(shapes_cache: Path) -> None:
    words = run("cache", "info", str(shapes_cache)).stdout
    assert "val: 8 of 8 clips, 64 frames, 8 captions, 0 without video, 0 failed, 0 partial" in words
    assert words.startswith(f"{shapes_cache}: shapes, 0.")
    told = json.loads(run("cache", "info", str(shapes_cache), "--json").stdout)
    assert told["splits"]["val"]["frames"] == 64
    assert told["fingerprint"]["model"] == "tiny"


@pytest.mark.shows("cache verify", "--repair")
def test_damaged_shards_are_named_and_set_aside_only_when_asked(copy: Path) -> None:
    assert run("cache", "verify", str(copy)).exit_code == 0
    shard = sorted((copy / "shards/val/clips").glob("*.h5"))[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    done = run("cache", "verify", str(copy))
    assert done.exit_code == 3
    assert shard.name in done.stdout
    assert shard.exists()
    assert run("cache", "verify", str(copy), "--repair").exit_code == 3
    assert not shard.exists()
    assert shard.with_name(shard.name + ".damaged").exists()


@pytest.mark.shows("cache compact", "--shard-clips")
def test_compaction_makes_shards_of_so_many_clips_and_changes_no_feature(
    shapes_root: Path, shapes_cache: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "small"
    args = ["--dataset", "shapes", "--root", str(shapes_root), "--backbone", "tiny"]
    args += ["--split", "val", "--cache", str(cache), "--workers", "1", "--shard-clips", "1"]
    assert run("extract", *args).exit_code == 0
    shards = cache / "shards/val/clips"
    assert len(list(shards.glob("*.h5"))) == 8
    for size, left in ((3, 3), (1024, 1)):
        done = run("cache", "compact", str(cache), "--shard-clips", str(size))
        assert done.exit_code == 0
        assert len(list(shards.glob("*.h5"))) == left
    mine, theirs = Cache.open(cache).clips("val"), Cache.open(shapes_cache).clips("val")
    assert mine.ids == theirs.ids
    for place in range(8):
        assert np.allclose(mine.read(place)[0], theirs.read(place)[0], atol=1e-2)
    assert run("cache", "verify", str(cache)).exit_code == 0


@pytest.mark.shows("cache export", "--split", "--out", "--format")
def test_a_split_is_exported_as_the_docs_lay_it_out(shapes_cache: Path, tmp_path: Path) -> None:
    done = run("cache", "export", str(shapes_cache), "--split", "val", "--out", str(tmp_path))
    names = ["val.features.npy", "val.offsets.npy", "val.clips.jsonl"]
    captions = ["val.texts.npy", "val.captions.jsonl"]
    assert done.stdout.splitlines() == [str(tmp_path / name) for name in (*names, *captions)]
    features, offsets = (np.load(tmp_path / name) for name in names[:2])
    assert (features.dtype, features.shape) == (np.float16, (64, 128))
    assert offsets.tolist() == list(range(0, 65, 8))
    row = json.loads((tmp_path / names[2]).read_text().splitlines()[0])
    assert set(row) == {"id", "path", "start", "end", "frames"}
    pytest.importorskip("pyarrow")
    done = run("cache", "export", str(shapes_cache), "--format", "parquet", "--out", str(tmp_path))
    assert {Path(line).name for line in done.stdout.splitlines()} == {
        f"{split}{kind}.parquet" for split in ("train", "val", "test") for kind in ("", ".captions")
    }  # fmt: skip


@pytest.mark.shows("doctor", "--json")
def test_the_doctor_tells_people_and_programs_the_same() -> None:
    words, told = run("doctor"), json.loads(run("doctor", "--json").stdout)
    for name, found in told.items():
        assert found is None or f"{name:<16}{found}" in words.stdout
    assert told["tiny backbone"].startswith("128 channels")
