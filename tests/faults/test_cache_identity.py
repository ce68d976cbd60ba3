"""A shard knows whose it is: features of other weights are never taken for a cache's own."""

import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from c4c.cache.compact import compact
from c4c.cache.identity import Owner, identity_of
from c4c.cache.open import Cache, commit_shard, create_cache
from c4c.cache.stored import holds, read_shard, write_shard
from c4c.core.errors import C4CError, Damaged, Misplaced
from c4c.core.records import Fingerprint

ONE = Fingerprint(
    model="ViT-B-32", weights="openai", sha256="ab" * 32, preprocessing="resize 224",
    sampling="fps=1", decoder="pyav 15", dtype="float32", features="hidden", batch=64,
    compiled=True,
)  # fmt: skip
OTHER = {"features": "final", "batch": 32, "compiled": False}


def test_the_identity_is_what_it_has_always_been() -> None:
    """Fixed values: shards that were written must stay their caches' own in every later c4c."""
    plain = replace(ONE, features="final", batch=None, compiled=False)
    assert identity_of("msrvtt", ONE)[:16] == "ddf9b4ff8da1bafb"
    assert identity_of("msrvtt", plain)[:16] == "03f5ab8167af283f"


def test_the_identity_is_of_what_makes_a_feature_and_not_of_a_path() -> None:
    same = identity_of("msrvtt", ONE)
    assert identity_of("msrvtt", replace(ONE, weights="/home/a/ViT-B-32.pt")) == same
    assert identity_of("msvd", ONE) != same
    for one in fields(Fingerprint):
        if one.name != "weights":
            changed = replace(ONE, **{one.name: OTHER.get(one.name, "other")})
            assert identity_of("msrvtt", changed) != same, one.name


def test_two_caches_of_the_same_features_are_equal_byte_for_byte(small: Any) -> None:
    whole, resumed = small("a"), small("b", clips=8)
    resumed.shards()[1].unlink()
    resumed.fill(8)
    for kind in ("clips", "captions"):
        for one, other in zip(whole.shards(kind), resumed.shards(kind), strict=True):
            assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("kind", ["clips", "captions"])
def test_a_shard_of_other_weights_is_refused_and_named_and_stays(
    small: Any, verify: Any, kind: str
) -> None:
    cache, other = small("a", "one"), small("b", "two")
    path, foreign = cache.shards(kind)[0], other.shards(kind)[0]
    assert path.name == foreign.name
    shutil.copy(foreign, path)
    with pytest.raises(Misplaced, match="another cache") as caught:
        getattr(Cache.open(cache.path), kind)()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    status, words = verify(cache.path, "--repair")
    assert status == 6
    assert str(path) in words and "another cache" in words
    assert path.read_bytes() == foreign.read_bytes()
    with pytest.raises(Misplaced):  # so no extraction takes it for done
        cache.fill(8)
    with pytest.raises(C4CError, match="another cache"):
        compact(cache.path, 16)


def test_a_shard_under_another_ones_name_is_refused(small: Any, verify: Any) -> None:
    cache = small()
    first, second = cache.shards()
    shutil.copy(first, second)
    with pytest.raises(Misplaced, match="or another name"):
        read_shard(second, cache.owner)
    assert verify(cache.path)[0] == 6


def test_a_mark_that_was_changed_is_damage_and_not_another_cache(small: Any, verify: Any) -> None:
    cache = small()
    path = cache.shards()[0]
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged):
        read_shard(path, cache.owner)
    assert verify(cache.path)[0] == 3


def test_a_cache_without_its_json_goes_on_with_the_same_weights_only(
    small: Any, verify: Any
) -> None:
    cache = small()
    before = cache.content()
    (cache.path / "cache.json").unlink()
    with pytest.raises(Misplaced, match=r"has no cache.json, and holds .*put cache.json back"):
        small("cache", "two")
    assert not (cache.path / "cache.json").exists()
    again = small("cache", "one")
    assert again.content() == before
    assert verify(cache.path)[0] == 0


def test_shards_that_say_nothing_are_not_taken_over_without_their_json(small: Any) -> None:
    cache = small()
    path = cache.shards()[0]
    path.unlink()
    held = cache.shard("clips", [f"clip {number:03d}" for number in range(4)])
    write_shard(path, held, Owner(cache.path, ""))
    assert len(Cache.open(cache.path).clips()) == 8
    (cache.path / "cache.json").unlink()
    with pytest.raises(Misplaced, match="does not say with which"):
        small("cache", "one")


def begun_anew(small: Any) -> tuple[Any, Any, Path]:
    """A run's cache was removed while it goes on, and begun anew with other weights."""
    older = small("cache", "one")
    shutil.rmtree(older.path)
    newer = small("cache", "two")
    path = newer.shards()[0]
    path.unlink()
    return older, newer, path


def test_an_older_run_stops_when_its_cache_was_begun_anew(small: Any) -> None:
    older, newer, path = begun_anew(small)
    held = older.shard("clips", [f"clip {number:03d}" for number in range(4)])
    with pytest.raises(C4CError, match="removed or begun anew"):
        commit_shard(older.cache, path, held)
    assert not path.exists()
    shutil.rmtree(newer.path)
    with pytest.raises(C4CError, match="removed or begun anew"):
        commit_shard(older.cache, path, held)
    assert not newer.path.exists()


def test_what_an_older_run_commits_all_the_same_is_not_accepted(small: Any) -> None:
    """It looked just before the cache was begun anew."""
    older, newer, path = begun_anew(small)
    held = older.shard("clips", [f"clip {number:03d}" for number in range(4)])
    write_shard(path, held, older.owner)
    with pytest.raises(Misplaced):
        holds(path, newer.owner)
    with pytest.raises(Misplaced):  # nor when the newer run comes second with its own
        commit_shard(newer.cache, path, newer.shard("clips", held.texts["ids"]))
    with pytest.raises(Misplaced):
        Cache.open(newer.path).clips()


def test_compaction_binds_its_shards_to_their_own_names(small: Any, verify: Any) -> None:
    cache = small("cache", "one", 16)
    before = cache.content()
    compact(cache.path, 16)
    assert cache.content() == before
    assert verify(cache.path)[0] == 0
    (path,) = cache.shards()
    assert read_shard(path, cache.owner).bound


def test_what_was_unbound_stays_unbound_in_a_compaction(small: Any, verify: Any) -> None:
    """Nobody can vouch for it: a compaction must not."""
    cache = small("cache", "one", 16)
    before = cache.content()
    for path in cache.shards()[:2]:
        held = read_shard(path)
        content = cache.shard("clips", held.texts["ids"])
        path.unlink()
        write_shard(path, content, Owner(cache.path, ""))
    status, words = verify(cache.path)
    assert status == 0 and "2 of 5 shards are unbound" in words
    done = compact(cache.path, 8)
    assert done.after == 3
    assert [read_shard(path).bound for path in cache.shards()].count(False) == 1
    assert cache.content() == before
    assert "1 of 3 shards are unbound" in verify(cache.path)[1]
    again = compact(cache.path, 8)
    assert (again.after, again.freed) == (3, 0)


def test_a_cache_that_differs_in_a_name_only_goes_on(tmp_path: Path) -> None:
    """The same weights under another path: the identity does not change with it."""
    create_cache(tmp_path / "a", "folder", replace(ONE, weights="a.pt"))
    create_cache(tmp_path / "b", "folder", replace(ONE, weights="b.pt"))
    owners = [Cache.open(tmp_path / name).owner.identity for name in "ab"]
    assert owners[0] == owners[1]
