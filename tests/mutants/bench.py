"""Runs tests on a copied tree, in a forked child: every heavy import was done before the fork.

The working tree is never touched. A child is its own process group, with limits of its own; what
it leaves running (decoder processes, trainings) is ended with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operators import Mutant
from plan import tracked

MARK = "C4C_MUTANT_TREE"  # in the environment of whatever a child starts
PACKAGE = "src/c4c"
MEMORY, FILES = 8 << 30, 4 << 30  # bytes that a child may hold, and write to one file
HEAVY = (
    *("torch", "torchvision", "numpy", "pytest", "hypothesis", "av", "h5py", "open_clip"),
    *("safetensors.torch", "click", "psutil"),
)


def preload() -> None:
    """Import what takes long, and nothing of c4c."""
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for name in HEAVY:
        __import__(name)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How tests ended.

    Attributes:
        passed: whether all of them passed.
        failures: ids of tests that did not; on a mutant the first one ends the run.
        seconds: how long they took.
    """

    passed: bool
    failures: tuple[str, ...]
    seconds: float


class Tree:
    """A copy of the repository in which one child at a time runs tests.

    Attributes:
        path: the folder.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self._pid: int | None = None
        self._whole: tuple[Path, bytes] | None = None  # the mutated file as it was
        _copy(root, path)

    def begin(self, mutant: Mutant | None, test: str, failing: Sequence[str], limit: float) -> None:
        """Plant a mistake, if one is given, and start the tests.

        Args:
            mutant: the mistake; the first test that notices it ends the run.
            test: test file, or id.
            failing: ids left out, as they fail without a mistake too.
            limit: seconds after which they count as hung.
        """
        if mutant:
            target = self.path / mutant.file
            self._whole = target, target.read_bytes()
            target.write_bytes(mutant.apply(self._whole[1]))
        self._told.unlink(missing_ok=True)
        self._begun, self._limit = time.monotonic(), limit
        self._pid = os.fork()
        if self._pid == 0:
            _run(self.path, test, failing, mutant is not None, self._told)

    @property
    def _told(self) -> Path:
        return self.path / "verdict.json"

    def verdict(self) -> Verdict | None:
        """How the child ended; ``None`` while it runs."""
        assert self._pid is not None
        seconds = time.monotonic() - self._begun
        ended, _ = os.waitpid(self._pid, os.WNOHANG)
        if not ended and seconds < self._limit:
            return None
        self._clear(bool(ended))
        if not self._told.exists():
            return Verdict(False, ("died" if ended else "hung",), seconds)
        told = json.loads(self._told.read_text())
        return Verdict(told["passed"], tuple(told["failures"]), seconds)

    def end(self) -> None:
        """End the child, if there is one."""
        if self._pid is not None:
            self._clear(False)

    def _clear(self, reaped: bool) -> None:
        """End the child's group and what it started elsewhere; take the mistake back."""
        assert self._pid is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        if not reaped:
            os.waitpid(self._pid, 0)
        _sweep(self.path)
        if self._whole:
            self._whole[0].write_bytes(self._whole[1])
        self._pid = self._whole = None


def _copy(root: Path, tree: Path) -> None:
    """Copy what git knows or would know, and the compiled part; make it importable as ``c4c``."""
    shutil.rmtree(tree, ignore_errors=True)
    built = [str(path.relative_to(root)) for path in root.glob("[!.]*/**/_native*.so")]
    for name in [*tracked(root), *(one for one in built if not one.startswith("build/"))]:
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target)
    _link(root, tree)
    # Byte code is checked by content: a mutated file may be as long and as old as the whole one.
    command = [sys.executable, "-m", "compileall", "-qq", "--invalidation-mode", "checked-hash"]
    subprocess.run([*command, str(tree)], check=True)


def _link(root: Path, tree: Path) -> None:
    """The links by which the rooms are imported as ``c4c``."""
    for link in (root / PACKAGE).iterdir():
        if link.is_symlink():
            (tree / PACKAGE / link.name).symlink_to(os.readlink(link))


def _sweep(tree: Path) -> None:
    """End processes that a child has started in sessions of their own."""
    mark = f"{MARK}={tree}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)


def _run(tree: Path, test: str, failing: Sequence[str], first: bool, told: Path) -> None:
    """In the child: run the tests, write the verdict, leave."""
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILES, FILES))
        os.chdir(tree)
        with (tree / "output.txt").open("wb") as output, open(os.devnull, "rb") as nothing:
            for stream, place in ((nothing, 0), (output, 1), (output, 2)):
                os.dup2(stream.fileno(), place)
        source = str((tree / PACKAGE).parent)
        os.environ |= {MARK: str(tree), "PYTHONPATH": source}
        sys.path.insert(0, source)
        found = _pytest(tree, test, failing, first)
        told.write_text(json.dumps(found))
    finally:
        os._exit(0)


def _pytest(tree: Path, test: str, failing: Sequence[str], first: bool) -> dict[str, Any]:
    import pytest

    failures = []

    class Failures:
        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.failed:
                failures.append(report.nodeid)

        def pytest_collectreport(self, report: Any) -> None:
            if report.failed:
                failures.append(report.nodeid)

    options = ["-q", "-c", "pyproject.toml", "--rootdir", str(tree), "--hypothesis-seed=0"]
    options += ["--basetemp", str(tree / "tmp"), *(f"--deselect={one}" for one in failing)]
    code = pytest.main([*options, *(["-x"] if first else []), test], plugins=[Failures()])
    # 5 is pytest's word for nothing left to run.
    return {"passed": code in (0, 5), "failures": failures}
