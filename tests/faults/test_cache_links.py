"""Nothing below a cache is followed out of it: not by readers, writers, repairs or cleaners."""

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from c4c.cache import compact as compaction
from c4c.cache.compact import compact
from c4c.cache.export import export_cache
from c4c.cache.inspect import damage, describe
from c4c.cache.open import Cache, commit_shard, list_shards
from c4c.cache.stored import holds
from c4c.core.errors import C4CError, Misplaced
from c4c.core.files import write_once

DAY = 86_400.0


def age(path: Path, seconds: float) -> None:
    now = time.time()
    os.utime(path, (now - seconds, now - seconds), follow_symlinks=False)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Somebody else's folder, with old files of all names that c4c removes or sets aside."""
    folder = tmp_path / "outside"
    for name in ("a.tmp", ".tmp-b", "c.h5", "part-00000000-ab.h5", "all.0001.json", "d.txt"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("precious")
        age(path, DAY)
    return folder


def state(folder: Path) -> dict[str, tuple[bytes, float, int]]:
    return {
        str(path.relative_to(folder)): (
            path.read_bytes(), path.stat().st_mtime, path.stat().st_mode
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }  # fmt: skip


def put_outside(cache: Path, name: str, outside: Path) -> None:
    """Replace a folder of the cache by a link to one outside, with the same things in it."""
    folder = cache / name
    for path in folder.rglob("*") if folder.exists() else ():
        if path.is_file():
            target = outside / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            age(target, DAY)
    if folder.exists():
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir()
        folder.rmdir()
    folder.symlink_to(outside)


USES: dict[str, Callable[[Any], object]] = {
    "compact": lambda cache: compact(cache.path, 16),
    "clean": lambda cache: compact(cache.path, 4),  # nothing to merge
    "repair": lambda cache: list(damage(cache.path, repair=True)),
    "extract": lambda cache: cache.fill(24),
    "read": lambda cache: cache.content(),
    "describe": lambda cache: describe(cache.path),
    "export": lambda cache: export_cache(cache.path, None, "npy", cache.path.parent / "out"),
}


@pytest.mark.parametrize("name", ["tmp", "manifests", "shards", "shards/all", "shards/all/clips"])
@pytest.mark.parametrize("use", list(USES))
def test_a_folder_that_leads_elsewhere_is_left_alone(
    small: Any, outside: Path, name: str, use: str
) -> None:
    cache = small("cache", "one", 16)
    put_outside(cache.path, name, outside)
    before = state(outside)
    words = ""
    try:
        found = USES[use](cache)
        if use == "repair" and name != "tmp":
            words = " ".join(map(str, found))  # type: ignore[call-overload]
    except C4CError as error:
        words = str(error)
    assert state(outside) == before
    needed = name != "tmp" or use in ("compact", "clean", "extract")
    assert ("is a symbolic link" in words) == needed, words


def test_a_shard_that_is_a_link_is_refused_however_whole(
    small: Any, verify: Any, tmp_path: Path
) -> None:
    cache = small()
    path = cache.shards()[0]
    away = path.rename(tmp_path / "away.h5")
    path.symlink_to(away)
    whole = away.read_bytes()
    with pytest.raises(Misplaced, match="symbolic link"):
        Cache.open(cache.path).clips()
    status, words = verify(cache.path, "--repair")
    assert status == 6 and "symbolic link" in words
    assert path.is_symlink() and away.read_bytes() == whole


@pytest.mark.parametrize("kind", ["dangling", "circle", "folder"])
def test_what_is_no_shard_at_a_shards_name_is_said_by_extraction(
    small: Any, kind: str, verify: Any
) -> None:
    """Before, extraction made the shard anew each time, could not commit it, and said nothing."""
    cache = small()
    path = cache.shards()[0]
    path.unlink()
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("gone.h5" if kind == "dangling" else path.name)
    words = "not a regular file" if kind == "folder" else "symbolic link"
    with pytest.raises(Misplaced, match=words) as caught:
        holds(path, cache.owner)
    assert str(path) in str(caught.value) and "remove it" in str(caught.value)
    with pytest.raises(Misplaced, match=words):  # nor may it be written there
        commit_shard(cache.cache, path, cache.shard("clips", ["clip 000"]))
    assert verify(cache.path)[0] == 6


@pytest.mark.parametrize("name", ["shards", "shards/all", "shards/all/clips", "tmp"])
def test_nothing_is_written_through_a_link(small: Any, outside: Path, name: str) -> None:
    """Whoever looked before may have looked too early."""
    cache = small()
    path = cache.shards()[0]
    put_outside(cache.path, name, outside)
    (outside / path.relative_to(cache.path / name)).unlink() if name != "tmp" else path.unlink()
    before = state(outside)
    with pytest.raises(Misplaced, match="symbolic link"):
        write_once(path, b"a shard", cache.path / "tmp")
    assert state(outside) == before


@pytest.mark.parametrize("target", ["gone", "../outside/d.txt"])
def test_a_name_that_is_a_link_is_not_taken_for_a_file(
    tmp_path: Path, outside: Path, target: str
) -> None:
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / "a.json"
    path.symlink_to(target)
    before = state(outside)
    with pytest.raises(Misplaced, match="symbolic link"):
        write_once(path, b"whole", tmp_path / "cache" / "tmp")
    assert path.is_symlink()
    assert state(outside) == before


def test_old_files_of_dead_writers_go_and_nothing_else_does(small: Any, outside: Path) -> None:
    cache = small()
    manifest = next((cache.path / "manifests").iterdir())
    places = (cache.path / "tmp", cache.path, cache.path / "manifests")
    dead = [folder / ".tmp-dead" for folder in places] + [cache.path / "tmp" / "part-1-2.tmp"]
    living = [folder / ".tmp-living" for folder in places]
    for path, seconds in [(path, 3700.0) for path in dead] + [(path, 3500.0) for path in living]:
        path.write_bytes(b"half of something")
        age(path, seconds)
    (cache.path / "tmp" / "link").symlink_to(outside / "d.txt")
    (cache.path / "tmp" / "folder").mkdir()
    (cache.path / "tmp" / "folder" / "file").write_text("not c4c's")
    for name in ("link", "folder/file", "folder"):
        age(cache.path / "tmp" / name, DAY)
    age(manifest, DAY)
    age(cache.path / "cache.json", DAY)
    before = state(outside)
    done = compact(cache.path, 4)
    assert done.freed == len(dead) * len(b"half of something")
    assert not any(path.exists() for path in dead)
    assert all(path.exists() for path in living)
    assert sorted(path.name for path in (cache.path / "tmp").iterdir()) == [
        ".tmp-living", "folder", "link",
    ]  # fmt: skip
    assert state(outside) == before
    assert manifest.exists()
    assert len(Cache.open(cache.path).clips()) == 8


def test_a_file_that_vanishes_while_old_ones_are_looked_for_is_no_error(
    small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = small()
    (cache.path / "tmp" / "a.tmp").write_bytes(b"x")
    real = compaction.list_folder

    def and_gone(folder: Path) -> Any:
        entries = real(folder)
        with contextlib.suppress(FileNotFoundError):
            (cache.path / "tmp" / "a.tmp").unlink()
        return entries

    monkeypatch.setattr(compaction, "list_folder", and_gone)
    compact(cache.path, 4)


def test_an_exports_name_does_not_lead_out_of_its_folder(small: Any, tmp_path: Path) -> None:
    cache = small()
    path = cache.path / "manifests" / "all.0001.json"
    content = json.loads(path.read_text())
    content["split"] = "../../all"
    content.pop("sha256")
    path.write_text(json.dumps(content))
    (cache.path / "shards" / "all").rename(cache.path / "shards" / "%2e%2e%2f%2e%2e%2fall")
    for kind in ("npy", "parquet"):
        with contextlib.suppress(C4CError):  # the shards are bound to their places
            export_cache(cache.path, None, kind, tmp_path / "a" / "b" / "out")
    below = {path for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert all((tmp_path / "a" / "b" / "out") in path.parents for path in below)
    assert {path.name for path in tmp_path.iterdir()} <= {"cache", "a"}


def test_shards_are_listed_without_following_links(small: Any, outside: Path) -> None:
    cache = small()
    before = list_shards(cache.path)
    (cache.path / "shards" / "more").symlink_to(outside)
    (cache.path / "shards" / "all" / "clips" / "link.h5").symlink_to(outside / "c.h5")
    assert list_shards(cache.path) == before
