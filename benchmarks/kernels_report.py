"""Compile every shipped Triton kernel for GPUs that are not here, and print what came out.

No GPU is needed: the compiler, ptxas and cuobjdump come with the Triton package. Columns:
registers a thread, bytes spilled, shared memory against the limit of the GPU, and the
tensor-core instruction found. Fails (status 1) when a kernel spills, does not fit, or goes
without tensor cores where it should use them.

    python benchmarks/kernels_report.py [--arch sm_80 --arch sm_90 --arch gfx942]
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import triton
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from c4c.kernels.contrastive import triton as contrastive_triton
from c4c.kernels.pool import triton as pool_triton
from c4c.kernels.ranks import triton as ranks_triton
from c4c.kernels.topk import triton as topk_triton
from c4c.kernels.triton_support import TILES

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_LIMIT = {"sm_80": 166_912, "sm_90": 232_448, "gfx942": 65_536}
MATRIX = re.compile(r"wgmma\.mma_async|mma\.sync|v_mfma")
DTYPES = {"fp16": 2, "bf16": 2, "fp32": 4}


@dataclass(frozen=True)
class Case:
    """One kernel in one dtype: what to compile, and how it is launched."""

    name: str
    dtype: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    warps: int
    stages: int
    product: bool


def cases() -> Iterator[Case]:
    """Every shipped kernel, as the host code launches it for D = 512."""
    for dtype in DTYPES:
        yield _pool("pool forward", dtype, pool_triton.pool_forward_kernel, KEEP=True)
        yield _pool("pool backward", dtype, pool_triton.pool_backward_kernel)
        for kind, kernel, pointers, more in (
            ("group_max", topk_triton.group_max_kernel, {"out": "fp32"}, {"G": 32}),
            ("rank", ranks_triton.rank_kernel, {"best": "fp32", "counts": "i64"}, {}),
            (
                "pair",
                ranks_triton.pair_kernel,
                dict.fromkeys(("owner", "rows"), "i64") | {"out": "fp32"},
                {},
            ),
            ("lse", contrastive_triton.lse_kernel, {"scale": "fp32", "out": "fp32"}, {}),
            (
                "gradient",
                contrastive_triton.gradient_kernel,
                dict.fromkeys(("scale", "rows", "columns", "out", "parts"), "fp32"),
                {"W": contrastive_triton.WIDTH},
            ),
        ):
            tile = TILES["rank" if kind == "pair" else kind, DTYPES[dtype]]
            inputs = dict.fromkeys(kernel.arg_names[:2], dtype)
            constants = {"M": tile.m, "N": tile.n, "K": tile.k, "WIDE": False, **more}
            signature = _signature(kernel, inputs | pointers, constants)
            yield Case(kind, dtype, kernel, signature, constants, tile.warps, tile.stages, True)


def _pool(name: str, dtype: str, kernel: Any, **more: Any) -> Case:
    pointers = dict.fromkeys(("frames", "pooled", "grad", "out"), dtype)
    pointers |= {"starts": "i64", "counts": "i64", "summed": "fp32"}
    constants = {"T": pool_triton.FRAMES, "D": 512, **pool_triton.NOTHING, **more}
    signature = _signature(kernel, pointers, constants)
    return Case(name, dtype, kernel, signature, constants, pool_triton.WARPS, 3, False)


def _signature(kernel: Any, pointers: dict[str, str], constants: dict[str, Any]) -> dict[str, str]:
    def kind(name: str) -> str:
        if name in constants:
            return "constexpr"
        return f"*{pointers[name]}" if name in pointers else "i32"

    return {name: kind(name) for name in kernel.arg_names}


def compile_case(case: Case, arch: str) -> dict[str, Any]:
    """Compile ``case`` for ``arch``: registers, spilled bytes, shared bytes, instruction."""
    # What a launch would find: aligned pointers, and strides and depth that 16 divides.
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(case.signature.items())
        if kind.startswith("*") or name.startswith("stride") or name in ("depth", "dim")
    }
    source = ASTSource(case.kernel, case.signature, case.constants, aligned)
    options = {"num_warps": case.warps, "num_stages": case.stages}
    built = triton.compile(source, target=TARGETS[arch], options=options)
    text = built.asm["ptx"] if arch.startswith("sm") else built.asm["amdgcn"]
    found = MATRIX.search(text)
    usage = _nvidia_usage(text, arch) if arch.startswith("sm") else _amd_usage(text)
    return usage | {"shared": built.metadata.shared, "matrix": found.group() if found else "-"}


def _nvidia_usage(ptx: str, arch: str) -> dict[str, int]:
    number = int(arch.removeprefix("sm_"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        target = "sm_90a" if number == 90 else arch
        command = [get_ptxas(number).path, "-v", f"-arch={target}", str(source), "-o", "/dev/null"]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", told)
    registers = re.search(r"Used (\d+) registers", told)
    assert registers is not None, told
    return {"registers": int(registers.group(1)), "spilled": sum(map(int, spills))}


def _amd_usage(text: str) -> dict[str, int]:
    def field(name: str) -> int:
        found = re.search(rf"\.{name}:\s+(\d+)", text)
        return int(found.group(1)) if found else 0

    # Scalar registers spill into lanes of vector registers, not into memory.
    return {"registers": field("vgpr_count"), "spilled": 4 * field("vgpr_spill_count")}


def problems(case: Case, arch: str, result: dict[str, Any]) -> list[str]:
    """What is wrong with a compiled kernel, in words."""
    found = []
    if result["spilled"]:
        found.append(f"spills {result['spilled']} bytes")
    if result["shared"] > SHARED_LIMIT[arch]:
        found.append(f"needs {result['shared']} bytes of {SHARED_LIMIT[arch]}")
    if case.product and case.dtype != "fp32" and result["matrix"] == "-":
        found.append("no tensor-core instruction")
    return found


@click.command()
@click.option("--arch", multiple=True, type=click.Choice(list(TARGETS)), help="Default: all.")
def main(arch: tuple[str, ...]) -> None:
    """Print the table of shipped kernels, compiled offline."""
    print(f"Triton {triton.__version__}, D = 512")
    print("| kernel | dtype | GPU | warps | registers | spilled | shared | matrix | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    bad = 0
    for case in cases():
        for name in arch or tuple(TARGETS):
            result = compile_case(case, name)
            wrong = problems(case, name, result)
            bad += bool(wrong)
            print(
                f"| {case.name} | {case.dtype} | {name} | {case.warps} | {result['registers']} | "
                f"{result['spilled']} | {result['shared']} | {result['matrix']} | "
                f"{'; '.join(wrong) or 'ok'} |",
                flush=True,
            )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
