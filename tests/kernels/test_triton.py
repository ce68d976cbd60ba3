"""The Triton kernels without a GPU: in the interpreter, and compiled for GPUs elsewhere."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton has no wheel for this platform"
)


def run(*command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("cases", ["interpreted.py", "interpreted_bounds.py"])
def test_every_kernel_equals_its_definition_in_the_interpreter(cases):
    run("-m", "pytest", "-q", "-x", str(HERE / cases), TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_shipped_configurations_compile_as_they_should(arch):
    """No spills, tensor cores where they belong, no tf32, rows found in 64 bits."""
    table = run(str(ROOT / "benchmarks" / "kernels_report.py"), "--arch", arch)
    assert table.count("| ok |") == len(table.splitlines()) - 3 > 30


WIDE = """
%a = arith.extsi %stride : i32 to i64
%b = tt.splat %a : i64 -> tensor<4xi64>
%c = arith.muli %r, %b : tensor<4xi64>
%d = tt.splat %dim : i32 -> tensor<4xi32>
%e = arith.cmpi slt, %o, %d : tensor<4xi32>
"""
NARROW = """
%b = tt.splat %stride : i32 -> tensor<4x1xi32>
%c = arith.muli %r, %b : tensor<4x1xi32>
%d = arith.muli %n, %dim : i32
"""


@needs_triton
def test_rows_found_in_32_bits_are_seen():
    names = ["a", "stride", "dim"]
    code = "import sys, kernels_report as report; "
    code += f"print([report.narrow_offsets(one, {names}) for one in sys.argv[1:]])"
    found = run("-c", code, WIDE, NARROW, PYTHONPATH=str(ROOT / "benchmarks"))
    assert found.strip() == "[[], ['stride', 'dim']]"


def test_everything_runs_without_triton():
    # A module that is None in sys.modules cannot be imported, and find_spec raises for it.
    run(
        "-c",
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'triton' else real(n, *a)\n"
        "import c4c.kernels; assert 'torch' not in sys.modules\n"
        "import torch; x = torch.randn(9, 4)\n"
        "c4c.kernels.topk_similarity(x, c4c.kernels.GalleryIndex(x), 2)\n"
        "c4c.kernels.contrastive_loss(x, x, 1.0)\n"
        "c4c.kernels.ground_truth_ranks(x, x, list(range(9)))\n"
        "c4c.kernels.masked_mean_pool(x, offsets=torch.tensor([0, 9]))\n"
        "assert not any(m.startswith('c4c') and m.endswith('_triton') for m in sys.modules)",
    )
