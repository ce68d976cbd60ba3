"""Scripts that start a Ray cluster, each in a process of its own that nothing outlives."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import psutil
import pytest


def run_scene(script: Path, *arguments: str | Path) -> dict[str, object]:
    """The JSON that a script prints last."""
    pytest.importorskip("ray")
    mark = f"{script.stem}-{secrets.token_hex(8)}"
    command = [sys.executable, str(script), *map(str, arguments)]
    environment = {**os.environ, "C4C_TEST_MARK": mark}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540)
        gone, left = psutil.wait_procs(marked(mark), timeout=20)
    finally:
        for process in marked(mark):
            process.kill()
    assert done.returncode == 0, done.stderr[-2000:]
    assert left == []
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def marked(mark: str) -> list[psutil.Process]:
    """Processes that were started with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("C4C_TEST_MARK") == mark:
                found.append(process)
    return found
