"""Compile every shipped Triton kernel for GPUs that are not here, and print what came out.

No GPU is needed: the compiler, ptxas and cuobjdump come with the Triton package. Columns:
registers a thread, bytes spilled, shared memory against the limit of the GPU, and the
tensor-core instruction found. Fails (status 1) when a kernel spills, does not fit, goes
without tensor cores where it should use them, cuts float32 to tf32, or finds rows by
products of 32 bits, which large galleries overflow.

    python benchmarks/kernels_report.py [--arch sm_80 --arch sm_90 --arch gfx942]
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import triton
from figures import json_option, keep
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
    "sm_89": GPUTarget("cuda", 89, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SHARED_LIMIT = {
    "sm_80": 166_912, "sm_89": 101_376, "sm_90": 232_448, "sm_100": 232_448, "sm_120": 101_376,
    "gfx942": 65_536,
}  # fmt: skip
MATRIX = re.compile(r"tcgen05\.mma|wgmma\.mma_async|mma\.sync|v_mfma")
DTYPES = {"fp16": 2, "bf16": 2, "fp32": 4}
# Arguments beside strides that rows are counted in.
_ROW_SIZES = ("dim", "depth", "groups", "words", "count")
# Kernels that share another's configuration.
_TILE = {"group_max 8": "group_max", "all scores": "group_max", "rank list": "rank"}


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
    odd: bool = False


def cases() -> Iterator[Case]:
    """Every variant that the host code launches.

    ``rows_of`` gives products widths and strides that 16 divides; pooling takes frames as they
    lie, and the strips of the loss are as wide as the batch.
    """
    for case in even_cases():
        yield case
        if "pool" in case.name:
            yield replace(case, name=f"{case.name}, odd", odd=True)


def even_cases() -> Iterator[Case]:
    """Every shipped kernel for D = 512."""
    for dtype in DTYPES:
        yield _pool("pool forward", dtype, pool_triton.pool_forward_kernel, KEEP=True)
        yield _pool("pool, no sums", dtype, pool_triton.pool_forward_kernel, KEEP=False)
        yield _pool("pool backward", dtype, pool_triton.pool_backward_kernel)
        pairs = {"low": "fp32", "high": "fp32"}
        for kind, kernel, pointers, more in (
            ("group_max", topk_triton.group_max_kernel, {"out": "fp32"}, {"G": 32}),
            ("group_max 8", topk_triton.group_max_kernel, {"out": "fp32"}, {"G": 8}),
            ("all scores", topk_triton.group_max_kernel, {"out": "fp32"}, {"G": 1}),
            ("rank", ranks_triton.count_kernel, pairs | {"above": "i32", "close": "i32"}, {}),
            ("rank list", ranks_triton.list_kernel, pairs | {"out": "i32"}, {"G": 32}),
        ):
            tile = TILES[_TILE.get(kind, kind), DTYPES[dtype]]
            inputs = dict.fromkeys(kernel.arg_names[:2], dtype)
            constants = {"M": tile.m, "N": tile.n, "K": tile.k, "WIDE": False, **more}
            signature = _signature(kernel, inputs | pointers, constants)
            yield Case(kind, dtype, kernel, signature, constants, tile.warps, tile.stages, True)
        yield _loss("pull", dtype, contrastive_triton.pull_kernel)
        for group in (32, 8):
            yield _again("group scores", dtype, dtype, group)
    yield _loss("statistics", "fp32", contrastive_triton.statistics_kernel)

    for one, other in (("bf16", "fp32"), ("fp32", "fp16"), ("fp16", "bf16")):
        for group in (32, 1):  # widened to float32, and so without tensor cores
            tile, kernel = TILES["group_max", 0], topk_triton.group_max_kernel
            constants = {"M": tile.m, "N": tile.n, "K": tile.k, "WIDE": True, "G": group}
            pointers = {"queries": one, "gallery": other, "out": "fp32"}
            signature = _signature(kernel, pointers, constants)
            name = "group_max" if group > 1 else "all scores"
            kind = f"{one} x {other}"
            yield Case(name, kind, kernel, signature, constants, tile.warps, tile.stages, False)
            yield _again("group scores", one, other, 32 if group > 1 else 8)


def _loss(name: str, dtype: str, kernel: Any) -> Case:
    pointers = dict.fromkeys(("cosines", "scale", "rows", "columns", "parts"), "fp32")
    constants = {"M": contrastive_triton.M, "N": contrastive_triton.N}
    signature = _signature(kernel, pointers | {"pull": dtype}, constants)
    return Case(name, dtype, kernel, signature, constants, contrastive_triton.WARPS, 3, False)


def _again(name: str, one: str, other: str, group: int) -> Case:
    kernel = topk_triton.group_score_kernel
    pointers = {"queries": one, "gallery": other, "who": "i64", "chosen": "i64", "out": "fp32"}
    constants = {"R": topk_triton.ROWS, "K": topk_triton.DEPTH, "G": group}
    kind = one if one == other else f"{one} x {other}"
    signature = _signature(kernel, pointers, constants)
    return Case(name, kind, kernel, signature, constants, 4, 3, False)


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
    # What a launch would find: aligned pointers, and strides and depth that 16 divides or not.
    even = () if case.odd else ("depth", "dim", "stride")
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(case.signature.items())
        if kind.startswith("*") or (name.startswith("stride_") or name in even)
    }
    source = ASTSource(case.kernel, case.signature, case.constants, aligned)
    options = {"num_warps": case.warps, "num_stages": case.stages}
    built = triton.compile(source, target=TARGETS[arch], options=options)
    text = built.asm["ptx"] if arch.startswith("sm") else built.asm["amdgcn"]
    found = MATRIX.search(text)
    usage = _nvidia_usage(text, arch) if arch.startswith("sm") else _amd_usage(text)
    return usage | {
        "shared": built.metadata.shared,
        "matrix": found.group() if found else "-",
        "tf32": "tf32" in text or "xf32" in text,
        "narrow": narrow_offsets(built.asm["ttir"], case.kernel.arg_names),
    }


def narrow_offsets(ttir: str, arguments: list[str]) -> list[str]:
    """Numbers of elements in a row that are multiplied in 32 bits, in Triton's own code."""
    found = []
    for name in arguments:
        if not (name.startswith("stride") or name in _ROW_SIZES):
            continue
        values = {name, *re.findall(rf"%(\w+) = tt\.splat %{name} : i32\b", ttir)}
        products = re.findall(r"arith\.muli %(\w+), %(\w+) : \S*i32\b", ttir)
        found += [name] * any(values & set(pair) for pair in products)
    return found


def _nvidia_usage(ptx: str, arch: str) -> dict[str, int]:
    number = int(arch.removeprefix("sm_"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        target = arch + "a" * (number >= 90)  # as Triton itself names them
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
    if result["tf32"]:
        found.append("cuts float32 to tf32")
    found += [f"multiplies {name} in 32 bits" for name in result["narrow"]]
    return found


@click.command()
@json_option
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
            keep({"kernel": case.name, "dtype": case.dtype, "arch": name, **result, "wrong": wrong})
            print(
                f"| {case.name} | {case.dtype} | {name} | {case.warps} | {result['registers']} | "
                f"{result['spilled']} | {result['shared']} | {result['matrix']} | "
                f"{'; '.join(wrong) or 'ok'} |",
                flush=True,
            )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
