"""How steps are taken: c4c's own numerics, and those of the authors' code beside them.

A recipe says which parameters decay, how the learning rate runs, and what updates them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BETAS = (0.9, 0.98)
EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Recipe:
    """Numerics of an optimizer.

    Attributes:
        decays: whether weight decay applies to a parameter, by name and value.
        schedule: share of the peak learning rate, by (step from 0, steps, share of warmup).
        adam: makes the optimizer of parameter groups.
        scale_is_clips: whether the logit scale learns at the backbone's rate, not the head's.
        freezes_stem: whether ``--freeze-layers 0`` leaves the embeddings as they are.
        apart: whether several processes share a batch as the authors' do: a tight head tells a
            pair from those of its own process only, and gradients are averaged over processes
            although the gathering gives back but a part of each (see ``gradient_shares``).
    """

    decays: Callable[[str, Tensor], bool]
    schedule: Callable[[int, int, float], float]
    adam: Callable[[Iterable[dict[str, object]]], torch.optim.Optimizer]
    scale_is_clips: bool = False
    freezes_stem: bool = False
    apart: bool = False


def shifted_cosine(step: int, steps: int, warmup: float) -> float:
    """Rises linearly over the first ``warmup`` share, then falls along half a cosine to 0."""
    rising = max(1, round(warmup * steps)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def unshifted_cosine(step: int, steps: int, warmup: float) -> float:
    """The authors': rises from 0, then joins a cosine that began with the first step."""
    progress = step / max(1, steps)
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * progress))


class BertAdam(torch.optim.Optimizer):
    """The authors' Adam: no bias correction, each parameter's gradient clipped by itself.

    Args:
        groups: with ``lr`` and ``weight_decay``; the decay is decoupled.
        clip_norm: largest norm of one parameter's gradient.
    """

    def __init__(self, groups: Iterable[dict[str, object]], clip_norm: float = 1.0) -> None:
        super().__init__(list(groups), {"lr": 0.0, "weight_decay": 0.0})
        self.clip_norm = clip_norm

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group["lr"], group["weight_decay"])

    def _update(self, parameter: Tensor, rate: float, decay: float) -> None:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        torch.nn.utils.clip_grad_norm_(parameter, self.clip_norm)
        mean = state["exp_avg"].mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
        square = state["exp_avg_sq"].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        update = mean / square.sqrt().add_(EPS)
        parameter.sub_(update.add_(parameter, alpha=decay), alpha=rate)


def _matrices(name: str, value: Tensor) -> bool:
    """Biases, norms and the logit scale do not decay."""
    return value.ndim >= 2


def _all_but_biases(name: str, value: Tensor) -> bool:
    """The authors mean to spare the norms too, but CLIP's are named otherwise than they list."""
    return "bias" not in name


def _fused(groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=0.0, betas=BETAS, eps=EPS, fused=True)


RECIPES = {
    "c4c": Recipe(_matrices, shifted_cosine, _fused),
    "authors": Recipe(_all_but_biases, unshifted_cosine, BertAdam, True, True, True),
}
