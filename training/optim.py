"""The optimizer: AdamW with decay for matrices only, warmup then cosine, one clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from c4c.training.config import TrainConfig

LOGIT_SCALE_MAX = math.log(100)
BETAS = (0.9, 0.98)
EPS = 1e-6


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at ``step`` (from 0) of ``steps``.

    Rises linearly over the first ``warmup`` share, then falls along half a cosine to 0.
    """
    rising = max(1, round(warmup * steps)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def decays(name: str, value: Tensor) -> bool:
    """Whether weight decay applies: matrices yes, biases, norms and the logit scale no."""
    return value.ndim >= 2


def parameter_groups(
    modules: Iterable[tuple[str, nn.Module, float]], weight_decay: float
) -> list[dict[str, object]]:
    """Optimizer groups, by learning rate and by decay.

    Args:
        modules: (name, module, factor of the learning rate); what is a part of several
            belongs to the first.
        weight_decay: of the groups that decay.

    Returns:
        Groups with ``params``, ``names``, ``factor`` and ``weight_decay``; none is empty.
    """
    groups = []
    seen: set[int] = set()
    for prefix, module, factor in modules:
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        named = [(n, p) for n, p in named if id(p) not in seen]
        seen.update(id(p) for _, p in named)
        for decay in (True, False):
            members = [(n, p) for n, p in named if decays(n, p) is decay]
            if members:
                groups.append(
                    {
                        "params": [p for _, p in members],
                        "names": [f"{prefix}.{n}" for n, _ in members],
                        "factor": factor,
                        "weight_decay": weight_decay if decay else 0.0,
                    }
                )
    return groups


class Optimizer:
    """Takes steps along the schedule.

    Args:
        modules: (name, module, factor of the learning rate); frozen parameters stay out.
        config: rates, decay, clipping.
        steps: optimizer steps of the whole run.
    """

    def __init__(
        self, modules: Iterable[tuple[str, nn.Module, float]], config: TrainConfig, steps: int
    ) -> None:
        self.config = config
        self.steps = steps
        self.groups = parameter_groups(modules, config.weight_decay)
        self.parameters = [p for group in self.groups for p in group["params"]]  # type: ignore[attr-defined]
        self._adam = self._build()

    def _build(self) -> torch.optim.Optimizer | None:
        if not self.groups:
            return None
        return torch.optim.AdamW(self.groups, lr=self.config.lr, betas=BETAS, eps=EPS, fused=True)

    def step(self, step: int) -> dict[str, float]:
        """Clip, update, clear the gradients.

        Args:
            step: number of this step, from 0.

        Returns:
            ``lr`` (the head's) and ``grad_norm`` (before clipping, NaN if it is not finite).
        """
        rate = self.config.lr * schedule(step, self.steps, self.config.warmup)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        if self._adam is not None and bool(torch.isfinite(norm)):
            for group in self._adam.param_groups:
                group["lr"] = rate * group["factor"]
            self._adam.step()
        for parameter in self.parameters:
            parameter.grad = None
        return {"lr": rate, "grad_norm": float(norm)}

    def state(self) -> dict[str, Tensor]:
        """The moments, as ``<parameter>/<moment>``: what a resumed run needs."""
        if self._adam is None:
            return {}
        found = {}
        for group in self._adam.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                for key, value in self._adam.state.get(parameter, {}).items():
                    found[f"{name}/{key}"] = value.detach().cpu().clone()
        return found

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what ``state`` gave, for parameters of the same names and shapes."""
        if self._adam is None:
            return
        for group in self._adam.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                own = {
                    key.rpartition("/")[2]: value
                    for key, value in state.items()
                    if key.rpartition("/")[0] == name
                }
                if own:
                    self._adam.state[parameter] = {
                        key: value.clone().to(parameter.device) for key, value in own.items()
                    }


def clamp_logit_scale(scale: Tensor) -> None:
    """Keep the log of the scale at ln 100 at most, as CLIP does."""
    with torch.no_grad():
        scale.clamp_(max=LOGIT_SCALE_MAX)
