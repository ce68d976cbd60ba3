"""Of a shard that cannot be used, verify says which of three things is true; one is repaired."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from c4c.cache import inspect
from c4c.cache.compact import compact
from c4c.cache.inspect import damage
from c4c.cache.open import Cache
from c4c.cache.seal import read_end, seal_of
from c4c.cache.stored import holds, read_shard
from c4c.core.errors import C4CError, NewerVersion, Unreadable

Patch = Callable[[str, Path, int, int], None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Patch:
    """Makes a call of the system fail for one path, from its nth time on."""

    def arrange(call: str, path: Path, code: int, first: int = 1) -> None:
        real, seen = getattr(os, call), []

        def failing(target: Any, *rest: Any, **more: Any) -> Any:
            name = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
            if str(name) == str(path):
                seen.append(name)
                if len(seen) >= first:
                    raise OSError(code, os.strerror(code), str(path))
            return real(target, *rest, **more)

        monkeypatch.setattr(os, call, failing)

    return arrange


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("call", ["open", "lstat", "fstat", "pread"])
@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ESTALE])
def test_what_cannot_be_read_now_is_no_damage_and_stays(
    small: Any, verify: Any, fail: Patch, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    cache = small()
    path, before = cache.shards()[1], snapshot(cache.path)
    fail(call, path, code, 1)
    status, words = verify(cache.path, "--repair")
    monkeypatch.undo()
    assert status == 4
    assert f"Cannot read {path} now: {os.strerror(code)}." in words.splitlines()
    assert snapshot(cache.path) == before
    assert verify(cache.path)[0] == 0


def test_an_error_in_the_middle_of_a_file_is_no_damage(
    small: Any, verify: Any, fail: Patch
) -> None:
    cache = small()
    path = cache.shards()[0]
    fail("pread", path, errno.EIO, 3)
    status, words = verify(cache.path, "--repair")
    assert (status, path.exists()) == (4, True)
    assert "Input/output error" in words


@pytest.mark.parametrize("name", ["cache.json", "manifests/all.0001.json"])
def test_a_plan_that_cannot_be_read_now_is_no_damage(
    small: Any, verify: Any, fail: Patch, name: str
) -> None:
    cache = small()
    fail("lstat", cache.path / name, errno.EACCES, 1)
    status, words = verify(cache.path, "--repair")
    assert status == 4
    assert "Permission denied" in words


@pytest.mark.parametrize("call", ["open", "lstat"])
def test_opening_says_so_too_and_an_extraction_does_not_redo_it(
    small: Any, fail: Patch, call: str
) -> None:
    cache = small()
    path = cache.shards()[0]
    fail(call, path, errno.EACCES, 1)
    for use in (lambda: Cache.open(cache.path).clips(), lambda: holds(path, cache.owner)):
        with pytest.raises(Unreadable, match="Permission denied") as caught:
            use()
        assert "\n" not in str(caught.value)


def newer(path: Path) -> None:
    """What a later c4c may write: another schema, the digests as they are now."""
    data = path.read_bytes()
    with path.open("rb") as stream:
        end = read_end(stream.fileno())
    assert end.seal is not None
    image = memoryview(data)[: end.content]
    seal = end.seal
    path.write_bytes(data[: end.content] + seal_of(image, seal.start, seal.stop, seal.mark, 4))


def newer_before_seals(path: Path) -> None:
    """What a later c4c wrote while there were no seals: the attribute alone says so."""
    with h5py.File(path, "r+") as file:
        file.attrs["schema"] = 99


@pytest.mark.parametrize("make", [newer, newer_before_seals])
def test_what_a_newer_c4c_made_is_no_damage_and_stays(
    small: Any, verify: Any, make: Callable[[Path], None]
) -> None:
    cache = small()
    path = cache.shards()[0]
    make(path)
    before = snapshot(cache.path)
    status, words = verify(cache.path, "--repair")
    assert status == 5
    assert str(path) in words and "upgrade" in words
    assert snapshot(cache.path) == before
    with pytest.raises(NewerVersion, match="upgrade"):
        Cache.open(cache.path).clips()


def test_only_what_is_proven_to_differ_is_moved(small: Any, verify: Any, fail: Patch) -> None:
    cache = small("cache", "one", 16)
    damaged, away, later, good = cache.shards()
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    newer(later)
    fail("open", away, errno.EIO, 1)
    status, words = verify(cache.path, "--repair")
    assert status == 3  # of several the gravest
    assert "now run the same command as before" in words
    assert not damaged.exists()
    assert damaged.with_name(damaged.name + ".damaged").read_bytes() == content
    assert all(path.exists() for path in (away, later, good))


def test_what_was_set_aside_before_is_not_replaced(small: Any, verify: Any) -> None:
    cache = small()
    path = cache.shards()[0]
    whole = path.read_bytes()
    for number in range(3):
        path.write_bytes(whole[: 1000 + number])
        assert verify(cache.path, "--repair")[0] == 3
    aside = sorted(path.parent.glob("*.damaged*"))
    assert [len(one.read_bytes()) for one in aside] == [1000, 1001, 1002]
    cache.fill(8)
    assert verify(cache.path)[0] == 0
    assert path.read_bytes() == whole


def test_a_shard_that_was_made_anew_meanwhile_is_not_moved(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another repair and extraction come between finding the damage and setting it aside."""
    cache = small()
    path = cache.shards()[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    real = inspect._wrong_with

    def redone(where: Path, *rest: Any) -> Any:
        found = real(where, *rest)
        path.write_bytes(whole)
        return found

    monkeypatch.setattr(inspect, "_wrong_with", redone)
    lines = list(damage(cache.path, repair=True))
    assert any(path.name in line for line in lines)
    assert path.read_bytes() == whole
    assert list(path.parent.glob("*.damaged*")) == []


def test_a_compaction_in_between_is_no_damage(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = small("cache", "one", 16)
    real, compacted = inspect._wrong_with, []

    def slow(where: Path, *rest: Any) -> Any:
        if not compacted:
            compacted.append(compact(cache.path, 16))
        return real(where, *rest)

    monkeypatch.setattr(inspect, "_wrong_with", slow)
    assert list(damage(cache.path, repair=True)) == []
    assert compacted[0].after < compacted[0].before


def test_a_missing_shard_is_to_be_made_and_a_cut_one_is_damage(small: Any, verify: Any) -> None:
    cache = small()
    first, second = cache.shards()
    first.unlink()
    status, words = verify(cache.path)
    assert status == 3 and "is missing" in words
    second.write_bytes(b"")
    with pytest.raises(C4CError, match="which no shard has"):
        read_shard(second)
    assert verify(cache.path, "--repair")[0] == 3
    assert not second.exists()
    cache.fill(8)
    assert verify(cache.path)[0] == 0
