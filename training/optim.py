"""The optimizer: groups of parameters, clipping, and steps by the run's recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from c4c.core.errors import C4CError
from c4c.training.config import TrainConfig
from c4c.training.recipes import RECIPES, Recipe

LOGIT_SCALE_MAX = math.log(100)


def parameter_groups(
    modules: Iterable[tuple[str, nn.Module, float]],
    weight_decay: float,
    recipe: Recipe,
    clips_rate: float,
) -> list[dict[str, object]]:
    """Optimizer groups, by learning rate and by decay.

    Args:
        modules: (name, module, factor of the learning rate); what is a part of several
            belongs to the first.
        weight_decay: of the groups that decay.
        recipe: which ones do.
        clips_rate: factor of the learning rate of what is CLIP's.

    Returns:
        Groups with ``params``, ``names``, ``factor`` and ``weight_decay``; none is empty.
    """
    groups: dict[tuple[float, bool], dict[str, list[object]]] = {}
    seen: set[int] = set()
    for prefix, module, rate in modules:
        for name, value in module.named_parameters():
            if id(value) in seen or not value.requires_grad:
                continue
            seen.add(id(value))
            clips = recipe.scale_is_clips and name == "logit_scale"
            key = (clips_rate if clips else rate, recipe.decays(name, value))
            group = groups.setdefault(key, {"params": [], "names": []})
            group["params"].append(value)
            group["names"].append(f"{prefix}.{name}")
    return [
        {**group, "factor": factor, "weight_decay": weight_decay if decay else 0.0}
        for (factor, decay), group in groups.items()
    ]


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
        self.recipe = RECIPES[config.recipe]
        self.groups = parameter_groups(modules, config.weight_decay, self.recipe, config.coef_lr)
        self.parameters = [p for group in self.groups for p in group["params"]]  # type: ignore[attr-defined]
        self._adam = self._build()

    def _build(self) -> torch.optim.Optimizer | None:
        if not self.groups:
            return None
        return self.recipe.adam(self.groups)

    def step(self, step: int) -> dict[str, float]:
        """Clip, update, clear the gradients.

        Args:
            step: number of this step, from 0.

        Returns:
            ``lr`` (the head's) and ``grad_norm`` (before clipping, NaN if it is not finite).
        """
        rate = self.config.lr * self.recipe.schedule(step, self.steps, self.config.warmup)
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
        """Put back what ``state`` gave.

        Raises:
            C4CError: it is the state of other parameters, or of another optimizer.
        """
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
                    self._require_fitting(name, own, parameter)
                    self._adam.state[parameter] = {
                        key: value.clone().to(parameter.device) for key, value in own.items()
                    }

    def _require_fitting(self, name: str, own: dict[str, Tensor], parameter: Tensor) -> None:
        wanted = {"exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        if isinstance(self._adam, torch.optim.AdamW):
            wanted["step"] = torch.Size()
        fits = {key: value.shape for key, value in own.items()} == wanted
        if not fits or not all(value.is_floating_point() for value in own.values()):
            raise C4CError(
                f"The checkpoint's state of '{name}' does not fit this run; go back to another "
                "checkpoint, or --overwrite to begin anew."
            )


def clamp_logit_scale(scale: Tensor) -> None:
    """Keep the log of the scale at ln 100 at most, as CLIP does."""
    with torch.no_grad():
        scale.clamp_(max=LOGIT_SCALE_MAX)
