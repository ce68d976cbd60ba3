"""Triton kernels of the contrastive loss: log-sum-exp of rows, and the gradient of rows.

Both look at the logits from the side of ``a``; the other direction is the same kernel with
the arguments swapped. Nothing is added atomically, so a run repeats bit for bit.
"""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import launching
from c4c.kernels.triton_support import (
    divisible,
    launch_options,
    rows_of,
    tile_for,
    tile_product,
    widened,
)

OP = "contrastive_loss"
# Columns of the gradient that one program makes.
WIDTH = 128


def log_sum_exp(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Log-sum-exp over ``b`` of ``scale * a b^T``: float32 [B]."""
    a, b = rows_of(a), rows_of(b)
    out = torch.empty(len(a), device=a.device, dtype=torch.float32)
    tile = tile_for("lse", a, b)
    with launching(OP, a=a, b=b):
        lse_kernel[(divisible(len(a), tile.m),)](
            a, b, scale, out, len(a), a.stride(0), b.stride(0), a.shape[1],
            M=tile.m, N=tile.n, K=tile.k, WIDE=widened(a, b), **launch_options(tile),
        )  # fmt: skip
    return out


def gradient(
    a: Tensor, b: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of ``a``, float32 [B, D], and of ``scale``."""
    a, b = rows_of(a), rows_of(b)
    tile = tile_for("gradient", a, b)
    blocks = divisible(len(a), tile.m)
    out = torch.empty(a.shape, device=a.device, dtype=torch.float32)
    parts = torch.empty(blocks, device=a.device, dtype=torch.float32)
    with launching(OP, a=a, b=b):
        gradient_kernel[(blocks, divisible(a.shape[1], WIDTH))](
            a, b, scale, rows, columns, out, parts, len(a), a.stride(0), b.stride(0), a.shape[1],
            M=tile.m, N=tile.n, K=tile.k, W=WIDTH, WIDE=widened(a, b), **launch_options(tile),
        )  # fmt: skip
    return out, parts.sum()


@triton.jit
def lse_kernel(
    a, b, scale, out, batch, stride_a, stride_b, depth,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Running maximum and sum of exponentials along a strip of M rows."""
    o_m = tl.program_id(0) * M + tl.arange(0, M)
    factor = tl.load(scale)
    b_max = tl.full((M,), -float("inf"), dtype=tl.float32)
    b_sum = tl.zeros((M,), dtype=tl.float32)
    for first in range(0, batch, N):
        o_n = first + tl.arange(0, N)
        acc = tile_product(
            a, b, o_m, o_n, o_m < batch, o_n < batch, stride_a, stride_b, depth, M, N, K, WIDE
        )
        b_l = tl.where(o_n[None, :] < batch, acc * factor, -float("inf"))
        b_new = tl.maximum(b_max, tl.max(b_l, 1))
        b_sum = b_sum * tl.exp(b_max - b_new) + tl.sum(tl.exp(b_l - b_new[:, None]), 1)
        b_max = b_new
    tl.store(out + o_m, b_max + tl.log(b_sum), mask=o_m < batch)


@triton.jit
def gradient_kernel(
    a, b, scale, rows, columns, out, parts, batch, stride_a, stride_b, depth,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, W: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """(softmax of rows + softmax of columns - 2 I) / 2B times ``b``, W columns of it."""
    o_m = tl.program_id(0) * M + tl.arange(0, M)
    o_w = tl.program_id(1) * W + tl.arange(0, W)
    factor = tl.load(scale)
    b_rows = tl.load(rows + o_m, mask=o_m < batch, other=0.0)
    acc_out = tl.zeros((M, W), dtype=tl.float32)
    acc_scale = tl.zeros((M,), dtype=tl.float32)
    for first in range(0, batch, N):
        o_n = first + tl.arange(0, N)
        b_c = tile_product(
            a, b, o_m, o_n, o_m < batch, o_n < batch, stride_a, stride_b, depth, M, N, K, WIDE
        )
        b_columns = tl.load(columns + o_n, mask=o_n < batch, other=0.0)
        b_p = tl.exp(b_c * factor - b_rows[:, None]) + tl.exp(b_c * factor - b_columns[None, :])
        b_p = tl.where(o_m[:, None] == o_n[None, :], b_p - 2.0, b_p)
        live = (o_m[:, None] < batch) & (o_n[None, :] < batch)
        b_p = tl.where(live, b_p, 0.0) / (2.0 * batch)
        acc_scale += tl.sum(b_p * b_c, 1)
        p_b = b + o_n.to(tl.int64)[:, None] * stride_b + o_w[None, :]
        b_b = tl.load(p_b, mask=(o_n[:, None] < batch) & (o_w[None, :] < depth), other=0.0)
        if WIDE:
            b_b = b_b.to(tl.float32)
        # Divided by the batch last, so that small probabilities survive float16.
        b_q = (b_p * batch).to(b_b.dtype)
        acc_out = tl.dot(b_q, b_b, acc_out, input_precision="ieee")
    p_out = out + o_m.to(tl.int64)[:, None] * depth + o_w[None, :]
    inside = (o_m[:, None] < batch) & (o_w[None, :] < depth)
    tl.store(p_out, acc_out * (factor / batch), mask=inside)
    if tl.program_id(1) == 0:
        tl.store(parts + tl.program_id(0), tl.sum(acc_scale, 0))
