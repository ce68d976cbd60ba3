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
    codes = torch.ones(2048, 512, dtype=torch.int8)
    floats = torch.ones(2048, 512)
    int8, float32 = [], []
    try:
        # In turns, so that whatever else the machine does hits both.
        for _ in range(8):
            int8.append(_seconds(lambda: torch._int_mm(codes[:512], codes.T)))
            float32.append(_seconds(lambda: floats[:512] @ floats.T))
    except RuntimeError:
        return False
    return 1.5 * min(int8) < min(float32)


def _seconds(work: Callable[[], Tensor]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
