"""What a power failure can undo: the order of sync, name and removal, by recording the calls.

Killing a process cannot show a sync that is missing, as the system writes everything in the end.
So the calls are recorded, in order, and the order is compared with what the promise needs.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c4c.cache.compact import compact
from c4c.cache.identity import Owner
from c4c.cache.inspect import damage
from c4c.cache.shard import make_shard
from c4c.cache.stored import write_shard
from c4c.core.errors import C4CError
from c4c.core.files import write_atomic, write_once
from c4c.heads import build_head
from c4c.heads.checkpoint import save_checkpoint

Call = tuple[str, Path, Path | None]


class Recorder:
    """The calls that make, name, sync and remove files, in order.

    Attributes:
        calls: (what, path, second path of a link or rename).
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Call] = []
        self.contents: dict[int, list[Path]] = {}  # of folders that were renamed
        for name in ("link", "rename", "replace"):
            monkeypatch.setattr(os, name, self._two(name, getattr(os, name)))
        for name in ("unlink", "remove", "mkdir"):
            monkeypatch.setattr(os, name, self._one(name, getattr(os, name)))
        fsync = os.fsync

        def sync(handle: int) -> None:
            self.calls.append(("fsync", Path(os.readlink(f"/proc/self/fd/{handle}")), None))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", sync)

    def _two(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, **more: Any) -> Any:
            done = real(source, target, **more)
            what = "link" if name == "link" else "rename"
            path, final = Path(os.fspath(source)), Path(os.fspath(target))
            if final.is_dir():
                inside = [path / one.relative_to(final) for one in final.rglob("*")]
                self.contents[len(self.calls)] = [path, *inside]
            self.calls.append((what, path, final))
            return done

        return call

    def _one(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **more: Any) -> Any:
            done = real(path, *rest, **more)
            what = "mkdir" if name == "mkdir" else "unlink"
            place = Path(os.fspath(path))
            if place.is_absolute():  # rmtree removes by handle and name what nobody needs
                self.calls.append((what, place, None))
            return done

        return call

    def synced(self, path: Path, first: int, last: int | None = None) -> bool:
        return ("fsync", path, None) in self.calls[first:last]

    def named(self) -> list[Path]:
        """Final names that were given."""
        return [target for what, _, target in self.calls if target is not None]

    def broken(self) -> list[str]:
        """What of the promise does not hold, a line each.

        A file is synced before it gets its name (of a folder, every file in it, and itself); the
        folder of the name is synced afterwards, before anything that holds is removed; a new
        folder is synced in the one above it.
        """
        found = []
        for number, (what, path, target) in enumerate(self.calls):
            if what in ("link", "rename"):
                assert target is not None
                if "former" not in target.name:  # was named before, and goes
                    found += [
                        f"{one} was not synced before {target} got its name"
                        for one in self.contents.get(number, [path])
                        if not self.synced(one, 0, number)
                    ]
                if not self.synced(target.parent, number + 1, self._removal(number, path)):
                    found.append(f"the name of {target} was not durable in time")
            renamed = any(one[:2] == ("rename", path) for one in self.calls)
            if what == "mkdir" and not renamed and not self.synced(path.parent, number + 1):
                found.append(f"the folder {path} was made and never synced")
        return found

    def _removal(self, number: int, temporary: Path) -> int:
        """The place of the next call that removes anything but the temporary name."""
        for place in range(number + 1, len(self.calls)):
            what, path, _ = self.calls[place]
            if what == "unlink" and path != temporary:
                return place
        return len(self.calls)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def test_what_is_written_once_is_durable_in_this_order(tmp_path: Path, calls: Recorder) -> None:
    path, aside = tmp_path / "new" / "a.h5", tmp_path / "tmp"
    assert write_once(path, b"whole", aside)
    (temporary,) = [one for what, one, _ in calls.calls if what == "link"]
    assert temporary.parent == aside
    assert calls.calls == [
        ("mkdir", path.parent, None),
        ("fsync", tmp_path, None),
        ("mkdir", aside, None),
        ("fsync", tmp_path, None),
        ("fsync", temporary, None),
        ("link", temporary, path),
        ("fsync", path.parent, None),
        ("unlink", temporary, None),
    ]
    assert calls.broken() == []


@pytest.mark.parametrize("library", [False, True], ids=["bytes", "a library"])
def test_what_is_replaced_is_durable_in_this_order(
    tmp_path: Path, calls: Recorder, library: bool
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"before")

    def write(target: Path) -> None:  # some put a file of their own there
        (tmp_path / "own").write_bytes(b"after")
        (tmp_path / "own").chmod(0o600)
        (tmp_path / "own").rename(target)
        calls.calls.clear()

    write_atomic(path, write if library else b"after")
    (temporary,) = [one for what, one, _ in calls.calls if what == "rename"]
    assert calls.calls == [
        ("fsync", temporary, None),
        ("rename", temporary, path),
        ("fsync", tmp_path, None),
    ]
    assert path.read_bytes() == b"after"
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_whole_extraction_is_durable(small: Any, calls: Recorder) -> None:
    small("cache", "one", 16)
    names = [path.suffix for path in calls.named()]
    assert (names.count(".h5"), names.count(".json")) == (5, 2)
    assert calls.broken() == []


def test_a_compaction_removes_nothing_before_what_takes_its_place_is_durable(
    small: Any, calls: Recorder
) -> None:
    cache = small("cache", "one", 16)
    calls.calls.clear()
    compact(cache.path, 16)
    assert calls.broken() == []
    removed = [path for what, path, _ in calls.calls if what == "unlink"]
    shards = [path for path in removed if path.suffix == ".h5"]
    (plan,) = [path for path in removed if path.suffix == ".json"]
    assert len(shards) == 4
    # Shards go first, durably: one that no plan names any more would stay for ever.
    last = max(calls.calls.index(("unlink", path, None)) for path in shards)
    gone = calls.calls.index(("unlink", plan, None))
    assert last < gone
    assert calls.synced(shards[0].parent, last, gone)
    assert calls.synced(plan.parent, gone)


def test_a_shard_is_set_aside_durably(small: Any, calls: Recorder) -> None:
    cache = small()
    path = cache.shards()[0]
    path.write_bytes(path.read_bytes()[:-1])
    calls.calls.clear()
    assert any("set aside" in line for line in damage(cache.path, repair=True))
    assert calls.calls == [("fsync", path.parent, None)]  # renamed by a call of its own
    assert path.with_name(path.name + ".damaged").exists()


def test_a_checkpoint_is_durable(tmp_path: Path, calls: Recorder) -> None:
    torch.manual_seed(0)
    head = build_head("meanP", 8, None)
    for _ in range(2):  # the second takes the place of the first
        save_checkpoint(tmp_path / "last", head, {"config": {}})
        assert calls.broken() == []
    assert [path.name for path in calls.named()].count("last") == 2


@pytest.mark.parametrize("mask", [0o022, 0o007, 0o077])
def test_files_have_the_mode_that_the_umask_leaves(small: Any, tmp_path: Path, mask: int) -> None:
    """Colleagues read what the umask lets them read; a library's 0600 does not stay."""
    before = os.umask(mask)
    try:
        cache = small()
        write_atomic(cache.path / "other", lambda target: target.chmod(0o600))
    finally:
        os.umask(before)
    files = [path for path in cache.path.rglob("*") if path.is_file()]
    assert len(files) > 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~mask}


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_what_reads_back_otherwise_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: float
) -> None:
    """A disk that changes a byte of what it was given."""
    real = os.fsync

    def sync(handle: int) -> None:
        real(handle)
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.suffix == ".tmp":
            content = bytearray(path.read_bytes())
            content[int(place * len(content))] ^= 4
            path.write_bytes(content)

    monkeypatch.setattr(os, "fsync", sync)
    rows = [np.ones((2, 8), np.float16)]
    texts = {"ids": ["a"], "messages": [""]}
    shard = make_shard("clips", rows, [np.zeros(2, np.float32)], ["ok"], texts, 8)
    path = tmp_path / "part.h5"
    with pytest.raises(C4CError, match="reads back otherwise"):
        write_shard(path, shard, Owner(tmp_path, "ab" * 32))
    assert [one.name for one in tmp_path.rglob("*")] == ["tmp"]
