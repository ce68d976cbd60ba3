"""``c4c`` as a process of its own that has its imports behind it.

Importing torch and its neighbours takes a command seconds, and tests start hundreds of commands.
So ``run`` and ``start`` stand in for ``subprocess``: a process imports once and forks for each
command. Arguments, environment, folder, streams, signals and exit status are the command's own.
What looks at imports or start-up, or starts a shell, uses ``subprocess``.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from pathlib import Path
from typing import Any

C4C = [sys.executable, "-m", "c4c"]
_MODULES = (
    "open_clip", "h5py", "av", "c4c.extract.pipeline", "c4c.extract.backbone.load",
    "c4c.retrieval.session", "c4c.retrieval.searcher", "c4c.training.cached", "c4c.training.e2e",
)  # fmt: skip
_REQUEST = 1 << 17  # bytes; an environment and a command line


class Started:
    """A command under way, used as ``subprocess.Popen`` is.

    Args:
        command: ``C4C`` and its arguments.
        input: for its standard input.
        cwd: folder that it starts in.
        env: its environment.
        session: give it a session, and so a process group, of its own.
    """

    def __init__(
        self,
        command: list[str],
        *,
        input: str = "",
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        session: bool = False,
    ) -> None:
        assert command[: len(C4C)] == C4C, f"not a command of c4c: {command}"
        self.args = command
        self.returncode: int | None = None
        self._streams = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115  # used on
        self._streams[0].write(input.encode())
        self._streams[0].seek(0)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {
            "args": command[len(C4C) :],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "session": session,
        }
        with theirs:
            handles = [theirs.fileno(), *(stream.fileno() for stream in self._streams)]
            socket.send_fds(_forker(), [json.dumps(request).encode()], handles)
        self._line.settimeout(100)  # the first one waits for the imports
        self.pid = int(self._line.recv(64))

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status; ``subprocess.TimeoutExpired`` while it has none."""
        if self.returncode is None:
            self._line.settimeout(timeout)
            try:
                self.returncode = int(self._line.recv(64))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return self.returncode

    def poll(self) -> int | None:
        """Its exit status, or ``None`` while it has none."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """By SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; all that it wrote to stdout and stderr."""
        self.wait(timeout)
        for stream in self._streams[1:]:
            stream.seek(0)
        out, err = (stream.read().decode() for stream in self._streams[1:])
        return out, err


def run(
    command: list[str], *, timeout: float = 300, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What ``subprocess.run(command, capture_output=True, text=True, ...)`` gives.

    Args:
        command: ``C4C`` and its arguments.
        timeout: seconds after which it is killed.
        check: raise unless it exits with 0.
        options: of ``Started``.

    Raises:
        subprocess.TimeoutExpired: it took longer.
        subprocess.CalledProcessError: ``check``, and it failed.
    """
    process = Started(command, **options)
    try:
        words = process.communicate(timeout)
    finally:
        process.kill()
    done = subprocess.CompletedProcess(command, process.wait(), *words)
    if check:
        done.check_returncode()
    return done


@cache
def _forker() -> socket.socket:
    """The line to the process that forks, one a test process."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            # Threads that a library starts when it is imported are not in a fork.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
    atexit.register(lambda: (mine.close(), process.wait()))  # it ends with its line
    return mine


def _serve(line: socket.socket) -> dict[str, Any]:
    """Fork for each request; returns in the command's process only, with its request."""
    while True:
        request, handles, *_ = socket.recv_fds(line, _REQUEST, 4)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not request:
            os._exit(0)
        if not os.fork():
            line.close()
            asked: dict[str, Any] = json.loads(request)
            _watch(socket.socket(fileno=handles[0]), handles[1:], asked["session"])
            return asked
        for handle in handles:
            os.close(handle)


def _watch(asker: socket.socket, streams: list[int], session: bool) -> None:
    """Fork the command, which tells who asked its number and returns; tell how it ended."""
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        with contextlib.suppress(OSError):  # nobody asks any more
            asker.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    if session:
        os.setsid()
    asker.send(str(os.getpid()).encode())
    asker.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)


def _become(request: dict[str, Any]) -> None:
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["c4c", *request["args"]]
    sys.path[0] = request["cwd"]  # as -m has it
    status = 0
    try:
        runpy.run_module("c4c", run_name="__main__", alter_sys=True)
    except SystemExit as leave:
        status = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    # An interpreter's own end, less taking apart what was imported, which takes seconds.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


if __name__ == "__main__":
    for module in _MODULES:
        importlib.import_module(module)
    gc.freeze()  # a collection in a fork would copy every page of it
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
