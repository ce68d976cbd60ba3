"""Whatever stands in a cache's place of a file, every reader ends, at once and within bounds."""

import ctypes
import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from c4c.cache import mapping
from c4c.cache import seal as seals
from c4c.cache.compact import compact
from c4c.cache.hdf5 import MalformedError, read_arrays, read_root
from c4c.cache.inspect import damage, describe
from c4c.cache.open import Cache, create_cache
from c4c.cache.seal import read_end, seal_of
from c4c.cache.shard import make_shard, pack_shard
from c4c.cache.stored import holds, read_shard, shard_damage
from c4c.core.errors import C4CError, Damaged

OLD = sorted((Path(__file__).parents[1] / "data" / "cache-32ebc70").rglob("*.h5"))
pytestmark = pytest.mark.usefixtures("deadline")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def holes(path: Path) -> None:
    """A sparse file of 1 TB."""
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


USES: dict[str, Callable[[Any], object]] = {
    "read": lambda cache: cache.content(),
    "verify": lambda cache: list(damage(cache.path, repair=True)),
    "describe": lambda cache: describe(cache.path),
    "compact": lambda cache: compact(cache.path, 16),
    "extract": lambda cache: cache.fill(8),
}


@pytest.mark.parametrize("stand_in", [pipe, endless, holes])
@pytest.mark.parametrize("name", ["shard", "manifests/all.0001.json", "cache.json"])
@pytest.mark.parametrize("use", list(USES))
def test_what_is_no_file_in_a_files_place_is_one_line(
    small: Any, stand_in: Callable[[Path], None], name: str, use: str
) -> None:
    cache = small()
    path = cache.shards()[0] if name == "shard" else cache.path / name
    path.unlink()
    stand_in(path)
    try:
        said = [str(line) for line in USES[use](cache)]  # type: ignore[call-overload]
    except C4CError as error:
        said = [str(error)]
    assert any(str(path) in line for line in said)
    assert not any("\n" in line for line in said)


def hanging(path: Path) -> None:
    """The change of one byte after which libhdf5 walks in a circle: a heap's free list."""
    data = bytearray(path.read_bytes())
    heap = int.from_bytes(data[88:96], "little")
    free, place = (int.from_bytes(data[heap + at : heap + at + 8], "little") for at in (16, 24))
    assert data[place + free] == 1  # the end of the list
    data[place + free] = free
    path.write_bytes(data)


def libhdf5_hangs(path: Path) -> bool:
    script = "import h5py, sys; h5py.File(sys.argv[1]).get('features', getlink=True)"
    try:
        subprocess.run([sys.executable, "-c", script, str(path)], timeout=5, check=True)
    except subprocess.TimeoutExpired:
        return True
    return False


@pytest.mark.parametrize("sealed", [False, True], ids=["a flip", "a flip with fitting digests"])
@pytest.mark.parametrize("age", ["new", "old"])
def test_a_byte_that_hangs_libhdf5_is_damage_at_once(
    small: Any, verify: Any, age: str, sealed: bool, tmp_path: Path
) -> None:
    cache = small()
    path = cache.shards()[0]
    if age == "old":
        path.write_bytes(OLD[-1].read_bytes())
    hanging(path)
    if sealed:
        fit(path)
    if (age, sealed) == ("new", False):  # one is enough: it takes five seconds
        assert libhdf5_hangs(path)
    with pytest.raises(Damaged, match=path.name):
        read_shard(path)
    status, words = verify(cache.path)
    assert (status, path.name in words) == (3, True)


def fit(path: Path) -> None:
    """Give a shard's bytes, whatever they are, digests that agree."""
    data = path.read_bytes()
    with path.open("rb") as stream:
        end = read_end(stream.fileno())
    image = memoryview(data)[: end.content]
    if end.seal is None:
        path.write_bytes(bytes(image) + seals.hashlib.sha256(image).digest() + b"c4cshard")
    else:
        seal = end.seal
        path.write_bytes(
            bytes(image) + seal_of(image, seal.start, seal.stop, seal.mark, seal.schema)
        )


def metadata(path: Path) -> list[int]:
    """Places of the bytes that say where things are, and not what they are."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    with path.open("rb") as stream:
        image = data[: read_end(stream.fileno()).content]
    arrays = read_arrays(image, read_root(image))
    taken = np.zeros(len(image), np.bool_)
    for one in arrays.values():
        taken[one.start : one.start + one.size] = True
    return [int(place) for place in np.flatnonzero(~taken)]


@pytest.mark.parametrize("age", ["new", "old"])
def test_metadata_made_to_mislead_ends_in_a_line_or_in_the_same_rows(
    small: Any, age: str, tmp_path: Path
) -> None:
    """Seeded changes under digests that agree; whatever is read lies within the file."""
    chance = random.Random(0)
    source = small().shards()[0] if age == "new" else OLD[-1]
    whole, places = source.read_bytes(), metadata(source)
    path = tmp_path / "changed.h5"
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 4])):
            place = chance.choice(places)
            other = chance.choice(places)
            data[place : place + 8] = chance.choice(
                [
                    bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 : place + 8],
                    b"\xff" * 8,
                    bytes(8),
                    data[other : other + 8],
                    place.to_bytes(8, "little"),
                ]
            )
        path.write_bytes(data)
        fit(path)
        try:
            shard = read_shard(path)
        except C4CError as error:
            refused += 1
            assert "\n" not in str(error) and str(path) in str(error)
        else:
            assert len(shard.features) == len(shard.times)
            shard.damaged()
            assert shard_damage(path) == [] or shard.damaged()
    assert refused > 100


@pytest.mark.parametrize("size", [3 << 29, 1 << 35])
def test_a_sparse_file_that_claims_large_tables_is_refused_unread(
    small: Any, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = small()
    path = cache.shards()[0]
    data = path.read_bytes()
    with path.open("r+b") as stream:
        stream.truncate(size)
        stream.seek(size - 136)
        stream.write(data[-136:])
    taken = counted(monkeypatch)
    with pytest.raises(Damaged):
        read_shard(path)
    assert sum(taken) < 1000


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read takes."""
    taken: list[int] = []
    real = os.pread

    def pread(handle: int, size: int, place: int) -> bytes:
        found = real(handle, size, place)
        taken.append(len(found))
        return found

    monkeypatch.setattr(os, "pread", pread)
    return taken


def test_opening_reads_the_tables_and_no_features(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = small()
    path = cache.shards()[0]
    row = np.ones((50_000, 64), np.float16)
    texts = {"ids": ["a"], "messages": [""]}
    shard = make_shard("clips", [row], [np.zeros(50_000, np.float32)], ["ok"], texts, 64)
    path.write_bytes(pack_shard(shard, cache.owner.mark(path)))
    taken = counted(monkeypatch)
    assert np.array_equal(read_shard(path, cache.owner).row(0), row)
    assert row.nbytes // 50 < sum(taken) < row.nbytes // 25  # 4 bytes of time a frame, a bit more
    taken.clear()
    assert holds(path, cache.owner)
    assert sum(taken) == 136


def test_the_first_reading_of_a_clip_compares_its_bytes(small: Any) -> None:
    """Opening does not read features; what is read is checked all the same."""
    cache = small()
    path = cache.shards()[0]
    content = bytearray(path.read_bytes())
    needle = read_shard(path).row(2).tobytes()
    content[bytes(content).index(needle) + 1] ^= 1
    path.write_bytes(content)
    clips = Cache.open(cache.path).clips()
    name = read_shard(path).texts["ids"][2]
    for index, other in enumerate(clips.ids):
        if other != name:
            clips.read(index)
    with pytest.raises(Damaged, match=f"'{name}' differ"):
        clips.read(clips.ids.index(name))


def test_features_of_a_caption_are_compared_on_opening(small: Any) -> None:
    cache = small()
    path = cache.shards("captions")[0]
    content = bytearray(path.read_bytes())
    needle = read_shard(path).row(2).tobytes()
    content[bytes(content).index(needle) + 1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=path.name):
        Cache.open(cache.path).captions()


def test_hdf5_is_read_as_libhdf5_reads_it(tmp_path: Path) -> None:
    """Shards of many shapes: every array lies where h5py finds it, and is of its type."""
    draw = np.random.default_rng(0)
    path = tmp_path / "part.h5"
    for count in (0, 1, 2, 5, 300):
        lengths = draw.integers(0, 4, count)
        rows = [draw.standard_normal((n, 24)).astype(np.float16) for n in lengths]
        for kind, names in (("clips", ("ids", "messages")), ("captions", ("ids", "clip_ids",
                                                                         "texts"))):  # fmt: skip
            texts = {name: [f"{name} ☂ {i}" * (i % 3) for i in range(count)] for name in names}
            times = [np.arange(n, dtype=np.float32) for n in lengths]
            path.write_bytes(pack_shard(make_shard(kind, rows, times, ["ok"] * count, texts, 24),
                                        bytes(32)))  # fmt: skip
            data = np.frombuffer(path.read_bytes(), np.uint8)[:-136]
            root = read_root(data)
            found = read_arrays(data, root)
            with h5py.File(path) as file:
                assert root.attributes == {"schema": 3, "kind": kind.encode()}
                assert set(file) == set(found)
                for name, one in found.items():
                    assert file[name].dtype == one.dtype
                    assert np.array_equal(file[name][()], one.of(data))


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(2000)])
def test_what_is_hardly_hdf5_is_malformed(data: bytes) -> None:
    image = np.frombuffer(data, np.uint8)
    with pytest.raises(MalformedError):
        read_arrays(image, read_root(image))


def test_a_new_cache_in_place_of_a_pipe_is_refused(tmp_path: Path, small: Any) -> None:
    made_by = small().cache.fingerprint
    (tmp_path / "new").mkdir()
    os.mkfifo(tmp_path / "new" / "cache.json")
    with pytest.raises(C4CError, match="not a regular file"):
        create_cache(tmp_path / "new", "folder", made_by)


def test_a_file_system_that_cannot_map_is_read(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = small()
    before = cache.content()

    class Library:
        @staticmethod
        def mmap(*_: object) -> int:
            ctypes.set_errno(errno.ENODEV)
            return int(ctypes.c_void_p(-1).value or 0)

    monkeypatch.setattr(mapping, "_libc", Library)
    assert cache.content() == before
    assert list(damage(cache.path)) == []
