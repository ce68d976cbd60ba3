"""File systems that lack something: hard links, renames that do not replace, syncing folders."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from c4c.core import durable
from c4c.core.errors import C4CError
from c4c.core.files import write_atomic, write_once


@pytest.fixture(autouse=True)
def _notes_are_new() -> None:
    durable._SAID.clear()


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes calls answer as a file system does that does not know them."""

    def arrange(links: int = 0, renames: int = 0) -> None:
        def refuse(code: int) -> Any:
            def call(*names: object, **_: object) -> None:
                raise OSError(code, os.strerror(code), str(names[-1]))

            return call

        if links:
            monkeypatch.setattr(os, "link", refuse(links))
        if renames:
            monkeypatch.setattr(durable, "_rename_without_replacing", refuse(renames))

    return arrange


LINKS = [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS]
RENAMES = [0, errno.EINVAL, errno.ENOSYS]


@pytest.mark.parametrize("links", LINKS, ids=os.strerror)
@pytest.mark.parametrize("renames", RENAMES, ids=["rename", "no flags", "no call"])
def test_without_hard_links_the_first_of_two_writers_wins_too(
    tmp_path: Path, lacking: Any, links: int, renames: int, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking(links, renames)
    aside = tmp_path / "tmp"
    assert write_once(tmp_path / "a", b"first", aside)
    assert not write_once(tmp_path / "a", b"second", aside)
    assert (tmp_path / "a").read_bytes() == b"first"
    assert list(aside.iterdir()) == []
    words = capsys.readouterr().err
    if renames:  # something is lost, and said once
        assert words.count("no hard links") == 1
        assert "one run at a time" in words
    else:
        assert words == ""


def test_a_rename_replaces_nothing(tmp_path: Path) -> None:
    """The system's own call, on the file system of this folder."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert not durable.rename_new(tmp_path / "a", tmp_path / "b")
    assert durable.rename_new(tmp_path / "a", tmp_path / "c")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "b", "c": "a"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_what_is_no_lack_of_links_is_an_error(tmp_path: Path, lacking: Any, code: int) -> None:
    lacking(code)
    with pytest.raises(C4CError, match=f"Cannot write {tmp_path}/a: {os.strerror(code)}"):
        write_once(tmp_path / "a", b"first", tmp_path / "tmp")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "a").exists()


def failing_sync(monkeypatch: pytest.MonkeyPatch, code: int, folders: bool) -> None:
    real = os.fsync

    def sync(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}") == folders:
            raise OSError(code, os.strerror(code))
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)


@pytest.mark.parametrize("folders", [True, False], ids=["folders", "files"])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_sync_is_used_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    code: int, folders: bool,
) -> None:  # fmt: skip
    failing_sync(monkeypatch, code, folders)
    assert write_once(tmp_path / "a", b"first", tmp_path / "tmp")
    write_atomic(tmp_path / "b", b"second")
    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"firstsecond"
    words = capsys.readouterr().err
    cause = f"cannot sync {'folders' if folders else 'files'} ({os.strerror(code)})"
    assert words.count(cause) == 1
    assert "power failure" in words


@pytest.mark.parametrize("folders", [True, False], ids=["folders", "files"])
def test_a_sync_that_fails_ends_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: bool
) -> None:
    failing_sync(monkeypatch, errno.EIO, folders)
    for write in (
        lambda: write_once(tmp_path / "a", b"x", tmp_path / "tmp"),
        lambda: write_atomic(tmp_path / "b", b"x"),
    ):
        with pytest.raises(C4CError, match="Input/output error"):
            write()
    assert list(tmp_path.rglob(".tmp-*")) == []
