"""Modules that are made without numbers, and given those of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def filled(make: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> nn.Module | None:
    """A module with the numbers of a state; where that is mapped into memory, nothing is copied.

    Args:
        make: makes the module. Its buffers that no state dict holds stay without numbers.
        state: its weights, in float32 or less, and perhaps others.

    Returns:
        The module, for inference; ``None`` when the weights do not fit it.
    """
    with torch.device("meta"), _Blank():  # shapes alone
        module = make()
    try:
        own = {key: state[key].float() for key in module.state_dict()}
        module.load_state_dict(own, assign=True)
    except (KeyError, RuntimeError):
        return None
    # Parameters ask for gradients as those of a whole backbone do: torch multiplies a batch in
    # another way where they do not, and the last bits would differ.
    return module.eval()


class _Blank(TorchFunctionMode):
    """Inside, modules are made without numbers: drawing some takes time, and imports a compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "zero_", "fill_"):
            return args[0] if args else kwargs["tensor"]
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)
