"""The contrastive loss on a GPU: the library's products by strips, fused kernels between them.

A strip of cosines is a product that the GPU's library makes on the tensor cores, in float32
whatever the vectors are. The forward pass makes it once; one kernel reads it once for both
log-sum-exps. The backward pass makes it again, turns it into the pull on each pair in one
kernel, and needs one more product for each side. Nothing is added atomically, so a run
repeats bit for bit.
"""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

from collections.abc import Iterator
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import launching
from c4c.kernels.triton_support import divisible

OP = "contrastive_loss"
# Cosines of one strip: 64 MB, about what an L2 cache holds. A batch of up to 4,096 pairs is one
# strip, which is the plain dense way.
STRIP = 1 << 24
# Rows and columns of a tile of a strip.
M, N = 16, 256
WARPS = 4


def log_sum_exps(text: Tensor, video: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exps float32 [B] of the rows and of the columns of the logits."""
    rows = torch.empty(len(text), device=text.device, dtype=torch.float32)
    columns = torch.full_like(rows, -torch.inf)
    for low, cosines in _strips(text, video):
        count, batch = cosines.shape
        blocks = divisible(count, M)
        parts = torch.empty(blocks, batch, device=text.device, dtype=torch.float32)
        with launching(OP, text=text, video=video):
            statistics_kernel[(blocks,)](
                cosines, scale, rows[low:], parts, count, batch, M=M, N=N, num_warps=WARPS
            )
        columns = torch.logaddexp(columns, parts.logsumexp(0))
    return rows, columns


def gradients(
    text: Tensor, video: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of text and video, float32 [B, D], and of scale."""
    batch = len(text)
    to_text = torch.empty(text.shape, device=text.device, dtype=torch.float32)
    to_video, to_scale = torch.zeros_like(to_text), scale.new_zeros(())
    for low, cosines in _strips(text, video):
        count = len(cosines)
        blocks = divisible(count, M)
        pull = torch.empty(count, batch, device=text.device, dtype=text.dtype)
        parts = torch.empty(blocks, device=text.device, dtype=torch.float32)
        with launching(OP, text=text, video=video):
            pull_kernel[(blocks,)](
                cosines, scale, rows[low:], columns, pull, parts, low, count, batch,
                M=M, N=N, num_warps=WARPS,
            )  # fmt: skip
        to_text[low : low + count] = _product(pull, video)
        to_video += _product(pull.T, text[low : low + count])
        to_scale += parts.sum()
    # The pull is divided by the batch last, so that small probabilities survive float16.
    factor = scale / (2 * batch)
    return to_text.mul_(factor), to_video.mul_(factor), to_scale / (2 * batch)


def _strips(text: Tensor, video: Tensor) -> Iterator[tuple[int, Tensor]]:
    """First row of a strip, and its cosines float32 [n, B]."""
    low = 0
    for strip in text.split(max(1, STRIP // len(video))):
        yield low, _product(strip, video.T)
        low += len(strip)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """``one @ other`` in float32; halves are multiplied as they are and summed in float32."""
    if one.dtype != torch.float32 and sums_wide(one.device):
        return torch.mm(one, other, out_dtype=torch.float32)
    return one.float() @ other.float()


@cache
def sums_wide(device: torch.device) -> bool:
    """Whether torch makes products in float32 of halves on this device, which is found by trying.

    It does on NVIDIA's GPUs, not on a CPU; elsewhere halves are widened first, and go without
    tensor cores.
    """
    halves = torch.ones(16, 16, device=device, dtype=torch.float16)
    try:
        torch.mm(halves, halves, out_dtype=torch.float32)
    except (TypeError, RuntimeError):
        return False
    return True


@triton.jit
def statistics_kernel(
    cosines, scale, rows, parts, count, batch, M: tl.constexpr, N: tl.constexpr
):  # fmt: skip
    """Log-sum-exp of M rows, and of the columns of these M rows: each cosine is read once."""
    block = tl.program_id(0)
    o_m = block * M + tl.arange(0, M)
    factor = tl.load(scale)
    b_max = tl.full((M,), -float("inf"), dtype=tl.float32)
    b_sum = tl.zeros((M,), dtype=tl.float32)
    for first in range(0, batch, N):
        o_n = first + tl.arange(0, N)
        live = (o_m[:, None] < count) & (o_n[None, :] < batch)
        p_c = cosines + o_m.to(tl.int64)[:, None] * batch + o_n[None, :]
        b_l = tl.load(p_c, mask=live, other=0.0) * factor
        b_l = tl.where(live, b_l, -float("inf"))
        # Rows beyond the last have no number at all; theirs is never stored.
        b_new = tl.maximum(b_max, tl.max(b_l, 1))
        b_safe = tl.where(b_new > -float("inf"), b_new, 0.0)
        b_sum = b_sum * tl.exp(b_max - b_safe) + tl.sum(tl.exp(b_l - b_safe[:, None]), 1)
        b_max = b_new
        b_top = tl.max(b_l, 0)
        b_safe_top = tl.where(o_n < batch, b_top, 0.0)
        b_column = b_safe_top + tl.log(tl.sum(tl.exp(b_l - b_safe_top[None, :]), 0))
        tl.store(parts + block.to(tl.int64) * batch + o_n, b_column, mask=o_n < batch)
    tl.store(rows + o_m, b_max + tl.log(b_sum), mask=o_m < count)


@triton.jit
def pull_kernel(
    cosines, scale, rows, columns, pull, parts, low, count, batch,
    M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Softmax of rows + softmax of columns - 2 I, and its product with the cosines, summed."""
    o_m = tl.program_id(0) * M + tl.arange(0, M)
    factor = tl.load(scale)
    b_rows = tl.load(rows + o_m, mask=o_m < count, other=0.0)
    acc = tl.zeros((M,), dtype=tl.float32)
    for first in range(0, batch, N):
        o_n = first + tl.arange(0, N)
        live = (o_m[:, None] < count) & (o_n[None, :] < batch)
        place = o_m.to(tl.int64)[:, None] * batch + o_n[None, :]
        b_c = tl.load(cosines + place, mask=live, other=0.0)
        b_columns = tl.load(columns + o_n, mask=o_n < batch, other=0.0)
        b_p = tl.exp(b_c * factor - b_rows[:, None]) + tl.exp(b_c * factor - b_columns[None, :])
        b_p = tl.where(low + o_m[:, None] == o_n[None, :], b_p - 2.0, b_p)
        b_p = tl.where(live, b_p, 0.0)
        acc += tl.sum(b_p * b_c, 1)
        tl.store(pull + place, b_p.to(pull.dtype.element_ty), mask=live)
    tl.store(parts + tl.program_id(0), tl.sum(acc, 0))
