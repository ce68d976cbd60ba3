"""One writer a folder: the second is refused with the first one's name, a dead one holds none."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from c4c.core import lock
from c4c.core.errors import C4CError
from c4c.core.lock import FILE, one_writer

HOLD = """
import sys, time
from pathlib import Path
from c4c.core.lock import one_writer
with one_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_writer_is_refused_with_the_firsts_name(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as process:
        with pytest.raises(C4CError, match="Another run writes") as caught, one_writer(folder):
            pytest.fail("two writers")
        for word in (str(process.pid), socket.gethostname(), "since 20", str(folder)):
            assert word in str(caught.value)
        assert json.loads((folder / FILE).read_text())["pid"] == process.pid


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with holder(folder) as process:
        process.kill()
        process.wait()
    assert (folder / FILE).exists()
    with one_writer(folder):
        assert json.loads((folder / FILE).read_text())["pid"] == os.getpid()
    assert not (folder / FILE).exists()


def test_a_stopped_writer_still_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(C4CError, match="Another run"), one_writer(tmp_path):
            pass


def test_threads_of_one_process_are_writers_of_their_own(tmp_path: Path) -> None:
    with one_writer(tmp_path):
        with pytest.raises(C4CError, match="Another run"), one_writer(tmp_path):
            pass
        with pytest.raises(C4CError, match="Another run"), one_writer(tmp_path):
            pass  # the refused one has not taken the lock with it


def test_one_that_waits_goes_on_when_the_other_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with holder(tmp_path) as process:
        threading.Timer(1.5, process.kill).start()
        begun = time.monotonic()
        with one_writer(tmp_path, wait=True):
            assert time.monotonic() - begun > 1
    assert capsys.readouterr().err.count("waiting for another run") == 1


def test_of_many_writers_at_once_one_holds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the file is removed and made anew by each that ends."""
    inside, most, done = [0], [0], [0]

    def work() -> None:
        for _ in range(40):
            with one_writer(tmp_path, wait=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1
                done[0] += 1

    monkeypatch.setattr(lock, "_LOOK", 0.0005)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, done) == ([1], [160])


def test_a_folder_in_which_nothing_was_written_is_not_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), one_writer(tmp_path / "run"):
        raise ValueError("no")
    assert not (tmp_path / "run").exists()
    with one_writer(tmp_path / "run"):
        (tmp_path / "run" / "kept").touch()
    assert os.listdir(tmp_path / "run") == ["kept"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_where_there_are_no_locks_the_file_is_the_lock(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file system without locks can be mounted here: the system call says there are none."""

    def none(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", none)
    with one_writer(tmp_path):
        for wait in (False, True):
            with pytest.raises(C4CError, match="has no locks: if .* remove") as caught:
                one_writer(tmp_path, wait).__enter__()
            assert str(os.getpid()) in str(caught.value)
    with one_writer(tmp_path):  # it was removed at the end
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff" * 9000, b"[" * 4000])
def test_a_lock_file_may_hold_anything(content: bytes, tmp_path: Path) -> None:
    with holder(tmp_path):
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(C4CError, match="does not say which"), one_writer(tmp_path):
            pass
    with one_writer(tmp_path):
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()


def test_a_lock_file_is_not_followed_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "other").write_text("kept")
    (tmp_path / "run" / FILE).symlink_to(tmp_path / "other")
    with pytest.raises(C4CError, match="Cannot write"), one_writer(tmp_path / "run"):
        pass
    assert (tmp_path / "other").read_text() == "kept"


def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(C4CError, match="Cannot write"), one_writer(tmp_path / "run"):
        pass
