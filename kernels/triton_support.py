"""What the Triton kernels share: the tile product, and the table of configurations.

The table is static: the offline check (``benchmarks/kernels_report.py``) compiles exactly
these for the GPUs that it names, and nothing is tuned when a program starts.
"""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import interpreted


@dataclass(frozen=True)
class Tile:
    """Rows, columns and depth of a tile product, and how many warps and stages run it."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


# By bytes of a value; 0 is rows of two dtypes, widened. float32 tiles hold twice the bytes of
# float16 ones, and go without tensor cores.
TILES = {
    ("group_max", 2): Tile(128, 128, 64, 8, 3),
    ("group_max", 4): Tile(64, 64, 16, 8, 2),
    ("group_max", 0): Tile(64, 64, 16, 8, 2),
    ("rank", 2): Tile(128, 128, 64, 8, 3),
    ("rank", 4): Tile(64, 64, 32, 8, 3),
}


def tile_for(kernel: str, *tensors: Tensor) -> Tile:
    """The shipped configuration of ``kernel`` for the rows of these tensors."""
    return TILES[kernel, 0 if _differ(tensors) else tensors[0].element_size()]


def launch_options(tile: Tile) -> dict[str, int]:
    """Options of a launch; the interpreter takes them too, and ignores them."""
    return {"num_warps": tile.warps, "num_stages": tile.stages}


def widened(*tensors: Tensor) -> bool:
    """Whether tiles are widened to float32 before they are multiplied.

    So are rows of two dtypes: each value stays what it is, and neither tensor is copied. And
    bfloat16 in the interpreter, whose products of it are wrong.
    """
    return _differ(tensors) or (interpreted() and tensors[0].dtype == torch.bfloat16)


def _differ(tensors: tuple[Tensor, ...]) -> bool:
    return len({tensor.dtype for tensor in tensors}) > 1


def rows_of(tensor: Tensor) -> Tensor:
    """``tensor`` [N, D] with rows of 16n values that begin at multiples of 16 (else a copy).

    Triton compiles a variant of its own for rows that begin or end anywhere: its loads are
    narrow, and it spills. So a width of 500 becomes 512; the zeros add nothing to a product.
    """
    width = tensor.shape[1]
    if tensor.stride(1) == 1 and not (width % 16 or tensor.stride(0) % 16 or _odd(tensor)):
        return tensor
    wide = tensor.new_zeros(len(tensor), divisible(width, 16) * 16)
    wide[:, :width] = tensor
    return wide


def _odd(tensor: Tensor) -> bool:
    """Whether the first value does not lie where 16 bytes begin."""
    return tensor.data_ptr() % 16 != 0


def divisible(value: int, by: int) -> int:
    """How many pieces of ``by`` cover ``value``."""
    return -(-value // by)


@triton.jit
def tile_product(
    a, b, rows_a, rows_b, live_a, live_b, stride_a, stride_b, depth,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Inner products [M, N] in float32 of the rows of ``a`` and ``b``; 0 where not live."""
    o_k = tl.arange(0, K)
    p_a = a + rows_a.to(tl.int64)[:, None] * stride_a + o_k[None, :]
    p_b = b + rows_b.to(tl.int64)[:, None] * stride_b + o_k[None, :]
    acc = tl.zeros((M, N), dtype=tl.float32)
    for k in range(0, depth, K):
        inside = o_k[None, :] < depth - k
        b_a = tl.load(p_a + k, mask=live_a[:, None] & inside, other=0.0)
        b_b = tl.load(p_b + k, mask=live_b[:, None] & inside, other=0.0)
        if WIDE:
            b_a = b_a.to(tl.float32)
            b_b = b_b.to(tl.float32)
        # "ieee": float32 stays float32 instead of being cut to tf32.
        acc = tl.dot(b_a, tl.trans(b_b), acc, input_precision="ieee")
    return acc
