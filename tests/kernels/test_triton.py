"""The Triton kernels without a GPU: in the interpreter, and compiled for GPUs elsewhere."""

import importlib.util
import json
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


COMPILED = """
import json, kernels_report as report
cases = list(report.cases())
for number, case in enumerate(cases):  # the report has every one for every GPU
    arch = ("sm_80", "sm_90")[number % 2]
    wrong = report.problems(case, arch, report.compile_case(case, arch))
    print(json.dumps([case.name, case.dtype, arch, wrong]))
"""


@needs_triton
@pytest.mark.slow
def test_shipped_configurations_compile_as_they_should():
    """No spills, tensor cores where they belong, no tf32, rows found in 64 bits."""
    told = run("-c", COMPILED, PYTHONPATH=str(ROOT / "benchmarks")).splitlines()
    rows = [json.loads(line) for line in told]
    assert len(rows) > 30
    assert [row for row in rows if row[3]] == []


@needs_triton
@pytest.mark.slow
def test_the_page_has_what_a_call_asks_of_a_gpu():
    """Counted again, but for top-k, which takes the interpreter longer."""
    code = "import launches; print(*(launches.row(*case) for case in launches.others()), sep='\\n')"
    counted = run("-c", code, PYTHONPATH=str(ROOT / "benchmarks")).splitlines()
    page = (ROOT / "docs" / "explanation" / "kernels.md").read_text()
    assert len(counted) > 7 and [line for line in counted if line not in page] == []


@needs_triton
def test_each_tensor_of_a_call_is_counted_once_and_no_view():
    """By hand: a sum of 3 x 4 floats along rows, of a view; then a number is waited for."""
    code = "import launches, torch; x = torch.ones(4, 3)\n"
    code += "print(*launches.counted(lambda: x.T.sum(1).max().item()))"
    kernels, operations, waits, size = map(
        float, run("-c", code, PYTHONPATH=str(ROOT / "benchmarks")).split()
    )
    assert (kernels, operations, waits) == (0, 2, 1)
    assert size == (12 + 3) * 4 + (3 + 1) * 4 + 4


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
