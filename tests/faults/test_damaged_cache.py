"""A cache that was damaged, or made to mislead: an error that names the place, never zeros."""

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import warm

from c4c.cache.identity import Owner
from c4c.cache.inspect import damage
from c4c.cache.open import Cache, create_cache
from c4c.cache.seal import seal_of
from c4c.cache.shard import make_shard
from c4c.cache.stored import read_shard, write_shard
from c4c.core.errors import C4CError
from c4c.core.inside import is_there
from c4c.core.sampling import View
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract


def rows(count: int = 5, dim: int = 8) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal((place, dim)).astype(np.float16) for place in range(count)]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    own = rows()
    texts = {"ids": [f"clip {i} ☂" for i in range(5)], "messages": ["", "", "", "", "bad"]}
    made = make_shard(
        "clips", own, [np.arange(len(r), dtype=np.float32) for r in own], ["ok"] * 5, texts, 8
    )
    write_shard(tmp_path / "part.h5", made, Owner(tmp_path, "ab" * 32))
    return tmp_path / "part.h5"


def test_a_shard_reads_back_and_leaves_nothing_beside_it(shard: Path) -> None:
    held = read_shard(shard)
    for place, row in enumerate(rows()):
        assert np.array_equal(held.row(place), row)
    assert held.texts["ids"][4] == "clip 4 ☂"
    assert held.damaged() == []
    assert list((shard.parent / "tmp").iterdir()) == []


def test_the_first_of_two_writers_wins(shard: Path) -> None:
    before = shard.read_bytes()
    other = make_shard("clips", [], [], [], {"ids": [], "messages": []}, 8)
    write_shard(shard, other, Owner(shard.parent, "ab" * 32))
    assert shard.read_bytes() == before


def test_a_shard_cut_anywhere_is_an_error(shard: Path, tmp_path: Path) -> None:
    whole = shard.read_bytes()
    for size in range(0, len(whole) - 1, 97):
        cut = tmp_path / "cut.h5"
        cut.write_bytes(whole[:size])
        with pytest.raises(C4CError, match="cut.h5"):
            read_shard(cut)


def test_one_flipped_byte_names_its_clip(shard: Path, tmp_path: Path) -> None:
    whole = bytearray(shard.read_bytes())
    needle = rows()[3].tobytes()
    whole[bytes(whole).index(needle) + 5] ^= 1
    flipped = tmp_path / "flipped.h5"
    flipped.write_bytes(whole)
    assert read_shard(flipped).damaged() == ["clip 3 ☂"]


def rebuild(shard: Path, change: str) -> None:
    """Change a shard the way someone hostile would: with checksums that agree."""
    with h5py.File(shard, "r+") as file:
        if change == "unknown dataset":
            file["more"] = np.zeros(3, np.int64)
        elif change == "newer schema":
            file.attrs["schema"] = 99
        elif change == "offsets go backwards":
            file["offsets"][2] = 4
        elif change == "offsets past the end":
            file["offsets"][-1] += 1
        elif change == "status unknown":
            file["status"][0] = 9
        else:
            replace_features(file, change)
    seal(shard)


def seal(shard: Path) -> None:
    """Give HDF5 that somebody changed the digests of a shard."""
    image = shard.read_bytes()
    shard.write_bytes(image + seal_of(memoryview(image), 0, 0, bytes(32), 3))


def replace_features(file: h5py.File, change: str) -> None:
    """Put something else where the features are."""
    features = file["features"][:]
    del file["features"]
    if change == "external link":
        file["features"] = h5py.ExternalLink("/etc/hostname", "/x")
    elif change == "soft link":
        file["features"] = h5py.SoftLink("/times")
    elif change == "filter":
        file.create_dataset("features", data=features, chunks=(2, 8), compression="gzip")
    elif change == "wrong type":
        file["features"] = features.astype(np.float64)
    elif change == "other byte order":
        file["features"] = features.astype(">f2")
    elif change == "variable length":
        file.create_dataset("features", (10,), dtype=h5py.vlen_dtype(np.float16))
    elif change == "references":
        file.create_dataset("features", (10, 8), dtype=h5py.ref_dtype)
    elif change == "a group":
        file.create_group("features")
    elif change == "virtual":
        layout = h5py.VirtualLayout(shape=features.shape, dtype=np.float16)
        layout[:] = h5py.VirtualSource("gone.h5", "x", shape=features.shape)
        file.create_virtual_dataset("features", layout)
    elif change == "external storage":
        file.create_dataset(
            "features", features.shape, np.float16, external=[("/etc/hostname", 0, 9999)]
        )
    elif change == "giant":
        file.create_dataset("features", (5 * 10**9, 4), np.float16)  # 40 GB


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("unknown dataset", "holds 'more'"),
        ("newer schema", "schema 99"),
        ("offsets go backwards", "not increasing"),
        ("offsets past the end", "not increasing from 0 to"),
        ("status unknown", "'status' does not fit"),
        ("external link", "links to elsewhere"),
        ("soft link", "a link to elsewhere"),
        ("filter", "not a plain array"),
        ("wrong type", "not a plain array"),
        ("other byte order", "not a plain array"),
        ("variable length", "not a plain array"),
        ("references", "not a plain array"),
        ("a group", "not a plain array"),
        ("virtual", "not a plain array"),
        ("external storage", "not a plain array"),
        ("giant", "more bytes than the file has"),
    ],
)
def test_a_shard_made_to_mislead_is_refused(shard: Path, change: str, words: str) -> None:
    rebuild(shard, change)
    with pytest.raises(C4CError, match="part.h5") as caught:
        read_shard(shard)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_rebuilt_without_a_change_is_read(shard: Path) -> None:
    """So what the others are refused for is their change."""
    with h5py.File(shard, "r+") as file:
        features = file["features"][:]
        del file["features"]
        file["features"] = features
    seal(shard)
    assert np.array_equal(read_shard(shard).features, features)


def test_hdf5_of_other_programs_is_refused(shard: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        file["layer/kernel"] = np.zeros((3, 3))
    with pytest.raises(C4CError, match="weights.h5 is not what was written: it says no schema"):
        read_shard(tmp_path / "weights.h5")


def test_rows_of_zeros_are_told_by_verify_and_temporaries_of_the_dead_by_nobody(
    copy: Path,
) -> None:
    path = sorted((copy / "shards/test/clips").glob("*.h5"))[0]
    held = read_shard(path)
    rows = [np.array(held.row(place)) for place in range(len(held.status))]
    rows[1][2] = 0
    times = [held.seconds(place) for place in range(len(rows))]
    path.unlink()
    write_shard(
        path,
        make_shard("clips", rows, times, ["ok"] * len(rows), held.texts, 128),
        Cache.open(copy).owner,
    )
    (copy / "tmp" / "part-9-ff-123.tmp").write_bytes(b"half of a shard")
    (line,) = damage(copy)
    assert held.texts["ids"][1] in line and "all zero" in line
    assert len(Cache.open(copy).clips("test")) == 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("cache")
    make_shapes(here / "shapes", Recipe(seed=2, train=6, val=2, test=2))
    run_extract(config(here, here / "cache"))
    return here


def config(here: Path, cache: Path, **changes: object) -> ExtractConfig:
    settings: dict[str, object] = {"backbone": "tiny", "workers": 1, "shard_clips": 3, **changes}
    return ExtractConfig(dataset="shapes", root=here / "shapes", cache=cache, **settings)  # type: ignore[arg-type]


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "cache", tmp_path / "cache"))


def test_a_missing_shard_is_an_error_and_extraction_mends_it(made: Path, copy: Path) -> None:
    first = sorted((copy / "shards/train/clips").glob("*.h5"))[0]
    whole = first.read_bytes()
    first.unlink()
    with pytest.raises(C4CError, match="missing"):
        Cache.open(copy).clips("train")
    assert any("missing" in line for line in damage(copy))
    run_extract(config(made, copy))
    assert first.read_bytes() == whole
    assert list(damage(copy)) == []


def test_verify_names_the_clip_and_exits_3(copy: Path) -> None:
    path = sorted((copy / "shards/test/clips").glob("*.h5"))[0]
    held = read_shard(path)
    whole = bytearray(path.read_bytes())
    name, needle = held.texts["ids"][1], held.row(1).tobytes()
    whole[bytes(whole).index(needle)] ^= 0x40
    path.write_bytes(whole)
    done = warm.run([*warm.C4C, "cache", "verify", str(copy)])
    assert done.returncode == 3
    assert name in done.stdout


def test_a_cache_that_a_newer_c4c_began_is_no_damage(copy: Path) -> None:
    content = json.loads((copy / "cache.json").read_text())
    content["fingerprint"]["stabiliser"] = "on"
    (copy / "cache.json").write_text(json.dumps(content))
    with pytest.raises(C4CError, match=r"newer c4c \(it records: stabiliser\); upgrade"):
        Cache.open(copy)


def test_of_two_runs_that_begin_at_once_the_settings_of_the_first_hold(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looked before the first wrote: it compares all the same."""
    first = Cache.open(copy).fingerprint
    create_cache(tmp_path / "begun", "shapes", first)
    looked: list[Path] = []

    def too_early(path: Path, root: Path) -> bool:
        if path.name == "cache.json" and not looked:
            looked.append(path)
            return False
        return is_there(path, root)

    monkeypatch.setattr("c4c.cache.open.is_there", too_early)
    with pytest.raises(C4CError, match="made with other settings"):
        create_cache(tmp_path / "begun", "shapes", replace(first, batch=7))
    assert looked
    assert Cache.open(tmp_path / "begun").fingerprint == first


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 7}', '{"schema": 1}'])
def test_a_broken_cache_json_is_one_line(copy: Path, content: str) -> None:
    (copy / "cache.json").write_text(content)
    with pytest.raises(C4CError, match="cache"):
        Cache.open(copy)


def test_a_manifest_that_names_a_path_is_refused(copy: Path) -> None:
    path = sorted((copy / "manifests").glob("*.json"))[0]
    path.write_text(path.read_text().replace("part-", "../part-"))
    with pytest.raises(C4CError, match="do not trust"):
        Cache.open(copy).clips()


def test_other_settings_are_refused_with_the_difference(made: Path, copy: Path) -> None:
    with pytest.raises(C4CError, match="fps=2"):
        run_extract(config(made, copy, fps=2.0))
    other = Cache.open(copy).fingerprint
    with pytest.raises(C4CError, match="cache of shapes"):
        create_cache(copy, "folder", other)


def test_a_warm_batch_is_what_the_shards_hold(made: Path) -> None:
    clips = Cache.open(made / "cache").clips("train")
    batch = clips.batch([2, 0, 5], View(5))
    assert batch.features.shape == (3, 5, 128)
    whole, _ = clips.read(2)
    assert np.array_equal(batch.features[0].numpy(), whole[[0, 1, 3, 5, 7]].astype(np.float32))


def test_a_read_only_cache_can_be_searched(copy: Path) -> None:
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert len(Cache.open(copy).clips("test")) == 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_request_to_stop_is_one_line_and_leaves_nothing_half_written(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    make_shapes(tmp_path / "shapes", Recipe(seed=2, train=36, val=0, test=0))
    command = [*warm.C4C, "extract", "--dataset", "shapes", "--backbone", "tiny"]
    command += ["--root", str(tmp_path / "shapes"), "--cache", str(tmp_path / "c")]
    command += ["--split", "train", "--shard-clips", "1", "--workers", "1"]
    process = warm.Started(command)
    clips = tmp_path / "c" / "shards" / "train" / "clips"
    begun = time.monotonic()
    while not list(clips.glob("*.h5")) and time.monotonic() - begun < 60:
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, words = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"stopped by {number.name}" in words
    assert "Traceback" not in words
    assert 0 < len(list(clips.glob("*.h5"))) < 36
    assert list((tmp_path / "c" / "tmp").iterdir()) == []
    done = warm.run(command)
    assert done.returncode == 0
    assert list(damage(tmp_path / "c")) == []
