"""benchmarks/gpu.py: rehearsed on a CPU, and its checks where there is a GPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "gpu.py"
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton has no wheel for this platform"
)
# As on a machine that has a checkout, torch and Triton only: c4c itself is not installed.
BARE = """
import runpy, sys
for name in ("click", "h5py", "open_clip", "av", "torchvision", "rich"):
    sys.modules[name] = None
sys.path[:] = [one for one in sys.path if not one.endswith("src")]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(folder, *options):
    figures = folder / "new" / "gpu.jsonl"
    command = [sys.executable, "-c", BARE, SCRIPT, "--json", figures, *options]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=400,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    lines = [json.loads(line) for line in figures.read_text().splitlines()]
    return done, lines


@needs_triton
@pytest.mark.slow
def test_a_rehearsal_from_a_bare_checkout_checks_and_times_every_kernel(tmp_path):
    done, lines = run(tmp_path, "--rehearse")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    checks = [line for line in lines if "ok" in line]
    assert f"{len(checks)} of {len(checks)} checks hold." in done.stdout
    assert not [line for line in lines if "failed" in line]
    groups = {line["group"] for line in lines}
    assert {"checks of bounds", "checks of the loss", "times of top-k"} <= groups
    timed = {line["case"] for line in lines if line.get("by") == "c4c"}
    assert all(f"| {case} | " in done.stdout for case in timed)
    assert {"top-k", "ranks", "pool", "loss"} <= {case.partition(",")[0] for case in timed}


@needs_triton
def test_what_fails_or_does_not_hold_is_told_and_ends_nothing(tmp_path):
    """A kernel that is broken; the other cases and groups go on."""
    breaking = tmp_path / "sitecustomize.py"
    breaking.write_text(
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'c4c.kernels.pool.triton':\n"
        "            raise ImportError('broken on purpose')\n"
        "sys.meta_path.insert(0, Broken())\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    figures = tmp_path / "gpu.jsonl"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--rehearse", "--json", figures, "--only", "pooling"],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    lines = [json.loads(line) for line in figures.read_text().splitlines()]
    assert done.returncode == 1
    broken = [line for line in lines if "broken on purpose" in line.get("failed", "")]
    assert {line["group"] for line in broken} == {"checks of pooling", "times of pooling"}
    assert any(line.get("by") == "eager" and "ms" in line for line in lines)
    assert "broken on purpose" in done.stdout.partition("checks hold")[2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_check_holds_on_this_gpu(tmp_path):
    done, lines = run(tmp_path, "--only", "checks")
    assert done.returncode == 0, done.stdout[-6000:]
    assert sum(line.get("ok", False) for line in lines) > 80
