"""What a confined process can no longer do, tried with the real system calls."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from c4c.cli import doctor
from c4c.extract.video import sandbox

# Attempts are the same before and after; a file that holds nothing but ``kept`` is there.
ATTEMPTS = """
import ctypes, json, os, resource, signal, socket, subprocess, sys, threading
import c4c.extract.video.sandbox as sandbox

folder, port, said = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.chdir(folder)
libc = ctypes.CDLL(None, use_errno=True)

def write(name, how):
    handle = os.open(name, how, 0o600)
    os.write(handle, b"written")

def connect(family, where):
    with socket.socket(family) as one:
        one.settimeout(5)
        one.connect(where)

def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"data", ("127.0.0.1", port))

def fork():
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)

def run():
    assert os.posix_spawn("/bin/sh", ["sh", "-c", ":"], os.environ)

def system_call(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")

def lift():
    resource.prlimit(0, resource.RLIMIT_CORE, (0, 0))

every = {
    "make": lambda: write("made", os.O_WRONLY | os.O_CREAT),
    "make without a name": lambda: write(".", os.O_TMPFILE | os.O_RDWR),
    "change": lambda: write("changed", os.O_RDWR),
    "append": lambda: write("changed", os.O_WRONLY | os.O_APPEND),
    "cut off": lambda: os.open("cut off", os.O_RDONLY | os.O_TRUNC),
    "delete": lambda: os.unlink("deleted"),
    "rename": lambda: os.rename("renamed", "other"),
    "link": lambda: os.link("kept", "linked"),
    "make a folder": lambda: os.mkdir("folder"),
    "make a pipe": lambda: os.mkfifo("pipe"),
    "point elsewhere": lambda: os.symlink("kept", "pointer"),
    "change who may read": lambda: os.chmod("modes", 0o777),
    "change times": lambda: os.utime("modes", (0, 0)),
    "connect": lambda: connect(socket.AF_INET, ("127.0.0.1", port)),
    "connect to a path": lambda: connect(socket.AF_UNIX, "listens"),
    "send": send,
    "run": run,
    "fork": fork,
    "signal": lambda: os.kill(os.getppid(), signal.SIGWINCH),
    "read another's memory": lambda: open(f"/proc/{os.getppid()}/mem", "rb"),
    "open io_uring": lambda: system_call(425, 1, ctypes.create_string_buffer(120)),
    "make a key": lambda: system_call(248, b"user", b"name", b"x", 1, -1),
    "set a limit": lambda: lift(),
}

def tried(name):
    try:
        every[name]()
    except OSError as error:
        return error.errno
    return 0

EXTRA
os.write(said, json.dumps({name: tried(name) for name in every}).encode())
"""
FILES = ("changed", "cut off", "deleted", "renamed", "kept", "modes")
# What Landlock alone does not know; it does know the network's TCP.
BESIDE_LANDLOCK = {
    "change who may read", "change times", "connect to a path", "send", "fork", "open io_uring",
    "make a key", "set a limit",
}  # fmt: skip
MODES = {
    "nothing": "sandbox._landlock, sandbox._seccomp = lambda: 0, lambda: False",
    "landlock": "sandbox._seccomp = lambda: False",
    "seccomp": "sandbox._landlock = lambda: 0",
    "both": "",
}


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Where somebody listens: there, and at a path."""
    here = os.getcwd()
    os.chdir(tmp_path)  # paths of sockets are short
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as other:
        other.bind("listens")
        os.chdir(here)
        other.listen()
        yield server.getsockname()[1]


def child(code: str, *arguments: object) -> dict[str, Any]:
    """What a process says in JSON, to the handle that is its last argument."""
    reading, writing = os.pipe()
    command = [sys.executable, "-c", code, *map(str, arguments), str(writing)]
    done = subprocess.run(command, pass_fds=[writing], timeout=120, stderr=subprocess.PIPE)
    os.close(writing)
    with os.fdopen(reading) as answer:
        words = answer.read()
    assert done.returncode == 0 and words, (done.returncode, done.stderr)
    found: dict[str, Any] = json.loads(words)
    return found


def attempts(folder: Path, port: int, before: str) -> dict[str, int]:
    """The error number of each attempt; 0 where it worked."""
    for name in FILES:
        (folder / name).write_text("kept")
    os.chmod(folder / "modes", 0o600)
    return child(ATTEMPTS.replace("EXTRA", before), folder, port)


@pytest.fixture(scope="module")
def here() -> sandbox.Confined:
    """What the kernel grants here."""
    return sandbox.examine()


def test_before_all_of_it_works(tmp_path: Path, port: int) -> None:
    """Else the tests below would show nothing."""
    found = attempts(tmp_path, port, "")
    refused_anyway = {"open io_uring", "make a key", "read another's memory"}  # by containers
    assert {name for name, error in found.items() if error} <= refused_anyway


@pytest.mark.parametrize("mode", ["both", "seccomp", "landlock"])
def test_what_a_confined_process_can_no_longer_do(
    mode: str, tmp_path: Path, port: int, here: sandbox.Confined
) -> None:
    if (mode != "seccomp" and here.landlock < 6) or (mode != "landlock" and not here.seccomp):
        pytest.skip(f"this kernel grants {here}")
    found = attempts(tmp_path, port, f"{MODES[mode]}\nsandbox.confine(1 << 33, 60)")
    left = BESIDE_LANDLOCK if mode == "landlock" else set()
    if mode == "seccomp":  # reading is free, and this is a file for it
        left = {"read another's memory"}
    assert {name for name, error in found.items() if not error} <= left
    if mode == "landlock":
        return
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*FILES, "listens"}
    assert {(tmp_path / name).read_text() for name in FILES} == {"kept"}
    assert (tmp_path / "modes").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "modes").stat().st_mtime > 0


@pytest.mark.parametrize("mode", list(MODES))
def test_it_reads_computes_starts_threads_and_writes_what_is_open(
    mode: str, tmp_path: Path
) -> None:
    (tmp_path / "read").write_text("hello")
    code = f"""
import json, os, sys, threading
import c4c.extract.video.sandbox as sandbox
out = os.open(sys.argv[1] + "/out", os.O_WRONLY | os.O_CREAT)
{MODES[mode]}
sandbox.confine(1 << 33, 60, output=1000)
import numpy as np  # its threads too
found = []
thread = threading.Thread(target=lambda: found.append(open(sys.argv[1] + "/read").read()))
thread.start(); thread.join()
found += [float(np.ones((300, 300)).dot(np.ones((300, 300)))[0, 0]), os.write(out, bytes(1000))]
try: os.write(out, b"more")
except OSError as error: found.append(error.errno)
try: bytearray(9 << 30)
except MemoryError: found.append("no memory")
print("into a terminal", flush=True)
os.write(int(sys.argv[2]), json.dumps(dict(found=found)).encode())
"""
    assert child(code, tmp_path)["found"] == ["hello", 300.0, 1000, 27, "no memory"]
    assert (tmp_path / "out").stat().st_size == 1000


def test_what_it_prints_goes_nowhere() -> None:
    code = "from c4c.extract.video.sandbox import confine; confine(1 << 33, 60); print(1); x"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_one_that_computes_for_too_long_is_ended() -> None:
    code = "import signal, c4c.extract.video.sandbox as s; s.confine(1 << 33, 1)\n"
    code += "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    done = subprocess.run([sys.executable, "-c", code], timeout=120)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("limit", [1 << 34, 1 << 31])
def test_a_limit_that_is_lower_already_stays(limit: int) -> None:
    code = (
        "import json, os, resource, sys, c4c.extract.video.sandbox as s\nR = resource.RLIMIT_AS\n"
    )
    code += f"resource.setrlimit(R, ({limit}, {limit})); s.confine(1 << 33, 60)\n"
    code += "os.write(int(sys.argv[1]), json.dumps(dict(now=resource.getrlimit(R))).encode())"
    assert child(code)["now"] == [min(limit, 1 << 33)] * 2


def test_doctor_says_what_is_in_force(here: sandbox.Confined) -> None:
    (line,) = [check for check in doctor.examine() if check.name == "sandbox"]
    assert line.found == (str(here) if here.seccomp or here.landlock else None)
    assert not line.needed


@pytest.mark.parametrize(
    ("confined", "words"),
    [
        ((7, True), "no network, no writing, no programs (Landlock 7, seccomp)"),
        ((0, True), "no network, no writing, no programs (seccomp)"),
        ((4, False), "no TCP, no writing, no programs (Landlock 4)"),
        ((3, False), "no writing, no programs (Landlock 3)"),
        ((0, False), "limits alone (Landlock and seccomp are refused here)"),
    ],
)
def test_words(confined: tuple[int, bool], words: str) -> None:
    assert str(sandbox.Confined(*confined)) == words
