"""Triton kernels of masked mean pooling: one program a clip, one pass over its frames."""

# Arguments of a kernel are pointers and numbers of the device; Python has no types for them.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import torch
import triton
import triton.language as tl
from torch import Tensor

from c4c.kernels.dispatch import launching
from c4c.kernels.pool.naive import OP, noise, smallest

FRAMES = 4
WARPS = 4
# What counts as nothing, a frame or a mean: sums are float32 here.
NOTHING = {"SMALLEST": smallest(torch.float32), "NOISE": noise(torch.float32)}


def pool_forward(
    frames: Tensor, starts: Tensor, counts: Tensor, keep: bool
) -> tuple[Tensor, Tensor]:
    """Pooled [N, D] and, if ``keep``, the float32 sums of unit frames [N, D]."""
    frames = _by_rows(frames)
    clips, dim = len(starts), frames.shape[1]
    pooled = frames.new_empty(clips, dim)
    summed = frames.new_empty((clips, dim) if keep else 0, dtype=torch.float32)
    if clips and dim:
        with launching(OP, frames=frames, starts=starts, counts=counts):
            pool_forward_kernel[(clips,)](
                frames, starts, counts, pooled, summed, len(frames), frames.stride(0), dim,
                KEEP=keep, T=FRAMES, D=triton.next_power_of_2(dim), num_warps=WARPS, **NOTHING,
            )  # fmt: skip
    return pooled, summed


def pool_backward(
    grad: Tensor, frames: Tensor, starts: Tensor, counts: Tensor, summed: Tensor
) -> Tensor:
    """The gradient of the frames [F, D]."""
    frames, grad = _by_rows(frames), grad.contiguous()
    dim = frames.shape[1]
    out = torch.zeros_like(frames, memory_format=torch.contiguous_format)
    if len(starts) and dim:
        with launching(OP, frames=frames, starts=starts, counts=counts):
            pool_backward_kernel[(len(starts),)](
                grad, frames, starts, counts, summed, out, len(frames), frames.stride(0), dim,
                T=FRAMES, D=triton.next_power_of_2(dim), num_warps=WARPS, **NOTHING,
            )  # fmt: skip
    return out


@triton.jit
def _inverse(square, nothing):
    """One over the norm, given its square; 0 up to the norm ``nothing``."""
    some = square > nothing * nothing
    return tl.where(some, 1.0 / tl.sqrt(tl.where(some, square, 1.0)), 0.0)


@triton.jit
def _rows_of_clip(starts, counts, n, total):
    """Where a clip begins, how many frames it has, and whether all of them are frames."""
    start = tl.load(starts + n)
    count = tl.load(counts + n)
    inside = (start >= 0) & (count >= 0) & (count <= total - start)
    return start, tl.where(inside, count, 0), inside


@triton.jit
def _unit_frames(
    frames, start, count, t, stride, dim, T: tl.constexpr, D: tl.constexpr, SMALLEST: tl.constexpr
):
    """T unit frames from frame ``t`` on [T, D], one over their norms, their rows, who is live."""
    o_t = tl.arange(0, T)
    o_d = tl.arange(0, D)
    live = (o_t[:, None] < count - t) & (o_d[None, :] < dim)
    rows = start + t + o_t
    b_x = tl.load(frames + rows[:, None] * stride + o_d[None, :], mask=live, other=0.0)
    b_x = b_x.to(tl.float32)
    inverse = _inverse(tl.sum(b_x * b_x, 1), SMALLEST)[:, None]
    return b_x * inverse, inverse, rows, live


@triton.jit
def _cancelled(count, dim, NOISE: tl.constexpr):
    """As in naive.py: the norm up to which a sum of unit frames is what rounding left."""
    frames = count.to(tl.float32)
    return NOISE * frames * tl.sqrt(frames + dim)


def _by_rows(frames: Tensor) -> Tensor:
    """Frames whose values lie side by side (a copy only if they do not)."""
    return frames if frames.stride(1) == 1 else frames.contiguous()


@triton.jit
def pool_forward_kernel(
    frames, starts, counts, pooled, summed, total, stride, dim,
    KEEP: tl.constexpr, T: tl.constexpr, D: tl.constexpr,
    SMALLEST: tl.constexpr, NOISE: tl.constexpr,
):  # fmt: skip
    """The sum of a clip's unit frames, normalised; padding is never loaded."""
    n = tl.program_id(0).to(tl.int64)
    start, count, inside = _rows_of_clip(starts, counts, n, total)
    o_d = tl.arange(0, D)
    live_d = o_d < dim
    # Nothing beyond the frames is read; a clip that reaches there is no number.
    acc = tl.where(inside, tl.zeros((D,), dtype=tl.float32), float("nan"))
    for t in range(0, count, T):
        b_u, _, _, _ = _unit_frames(frames, start, count, t, stride, dim, T, D, SMALLEST)
        acc += tl.sum(b_u, 0)
    if KEEP:
        tl.store(summed + n * dim + o_d, acc, mask=live_d)
    b_y = acc * _inverse(tl.sum(acc * acc, 0), _cancelled(count, dim, NOISE))
    tl.store(pooled + n * dim + o_d, b_y.to(pooled.dtype.element_ty), mask=live_d)


@triton.jit
def pool_backward_kernel(
    grad, frames, starts, counts, summed, out, total, stride, dim,
    T: tl.constexpr, D: tl.constexpr, SMALLEST: tl.constexpr, NOISE: tl.constexpr,
):  # fmt: skip
    """Each normalisation passes on what is at right angles to its result, over the norm."""
    n = tl.program_id(0).to(tl.int64)
    start, count, _ = _rows_of_clip(starts, counts, n, total)
    o_d = tl.arange(0, D)
    live_d = o_d < dim
    b_s = tl.load(summed + n * dim + o_d, mask=live_d, other=0.0)
    b_g = tl.load(grad + n * dim + o_d, mask=live_d, other=0.0).to(tl.float32)
    scale = _inverse(tl.sum(b_s * b_s, 0), _cancelled(count, dim, NOISE))
    b_u = b_s * scale
    b_h = (b_g - b_u * tl.sum(b_u * b_g, 0)) * scale
    for t in range(0, count, T):
        b_f, inverse, rows, live = _unit_frames(
            frames, start, count, t, stride, dim, T, D, SMALLEST
        )
        b_o = (b_h[None, :] - b_f * tl.sum(b_f * b_h[None, :], 1)[:, None]) * inverse
        p_o = out + rows[:, None] * dim + o_d[None, :]
        tl.store(p_o, b_o.to(out.dtype.element_ty), mask=live)
