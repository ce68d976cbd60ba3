"""The definition of masked mean pooling, and what it takes for nothing."""

import torch
from torch import Tensor

from c4c.kernels.dispatch import compute_dtype

OP = "masked_mean_pool"
# How many times what a random walk of roundings makes of a sum the sum of a clip must be.
# Measured over orders, widths and precisions, frames that cancel leave at most 0.2 of it.
NOISE = 4


def masked_mean_pool_reference(features: Tensor, lengths: Tensor) -> Tensor:
    """The definition: padded [N, T, D] and lengths [N] to [N, D], in plain torch."""
    wide = features.to(compute_dtype(features.dtype))
    mask = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
    frames = _unit(torch.where(mask[:, :, None], wide, 0.0), smallest(wide.dtype))
    count = lengths.clamp(min=1)
    mean = frames.sum(1) / count[:, None]
    noise = cancelled(wide.dtype, count, features.shape[2]) / count
    return _unit(mean, noise[:, None]).to(features.dtype)


def _unit(x: Tensor, nothing: Tensor | float) -> Tensor:
    """``x`` [..., D] over its norm; 0 where the norm is at most ``nothing``."""
    square = x.square().sum(-1, keepdim=True)
    some = square > nothing**2
    # The inner where keeps the gradient of sqrt away from zero.
    return x * torch.where(some, torch.where(some, square, 1.0).rsqrt(), 0.0)


def smallest(dtype: torch.dtype) -> float:
    """The norm up to which a frame counts as nothing: its square has lost digits, or all."""
    about = torch.finfo(dtype)
    return float((about.tiny / about.eps) ** 0.5)


def noise(dtype: torch.dtype) -> float:
    """What ``n sqrt(n + D)`` is multiplied by in `cancelled`."""
    return NOISE * torch.finfo(dtype).eps


def cancelled(dtype: torch.dtype, counts: Tensor, dim: int) -> Tensor:
    """The norm [N] up to which a sum of ``counts`` [N] unit frames is rounding, not direction.

    Sums of D squares and of n frames were rounded at each step, up or down: errors grow as
    the square root of the number of steps. csrc/pool.h and triton.py do the same.
    """
    return noise(dtype) * counts * (counts + dim).sqrt()
