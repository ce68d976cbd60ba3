"""Damaged files of every kind: the right result or one line, never another error, never a hang.

The same cases each time; ``C4C_FUZZ="SEED TIMES"`` draws others, as many times as many, and
``python tests/faults/fuzz.py`` says how to run one kind alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SEED, TIMES = os.environ.get("C4C_FUZZ", "0 1").split()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), str(folder), SEED, TIMES]
    limit = 420 * int(TIMES)
    one = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=one)
    last = (folder / "now").read_text() if (folder / "now").exists() else "making good files"
    assert done.returncode == 0, f"{last} (bytes in {folder}/input): {done.stderr[-3000:]}"
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_every_damaged_file_is_refused_in_a_line_or_read_right(
    told: dict[str, dict[str, Any]],
) -> None:
    wrong = [problem for kind in told.values() for problem in kind["wrong"]]
    assert not wrong, "\n".join(wrong[:10])


def test_every_kind_of_file_was_damaged_beyond_reading(told: dict[str, dict[str, Any]]) -> None:
    """So the cases reach into the readers, and are not what a reader does not look at."""
    assert len(told) >= 30
    assert [name for name, kind in told.items() if not kind["refused"]] == []
