"""Rows as int8 codes with a scale, and whether this machine multiplies them fast."""

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def quantise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes [n, D] and the scale [n] of each row (1 for rows of zeros)."""
    scale = rows.abs().amax(1) / 127
    scale = torch.where(scale > 0, scale, 1.0)
    return (rows / scale[:, None]).round_().to(torch.int8), scale


@cache
def fast_int8() -> bool:
    """Whether products of int8 are at least 1.5 times as fast as float32 on this machine."""
    codes = torch.ones(512, 512, dtype=torch.int8)
    floats = torch.ones(512, 512)
    try:
        int8 = _seconds(lambda: torch._int_mm(codes, codes.T))
    except RuntimeError:
        return False
    return 1.5 * int8 < _seconds(lambda: floats @ floats.T)


def _seconds(work: Callable[[], Tensor]) -> float:
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)
