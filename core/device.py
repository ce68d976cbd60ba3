"""The device that a command computes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c4c.core.errors import C4CError

if TYPE_CHECKING:
    import torch


def pick_device(name: str | None) -> torch.device:
    """The device called ``name``; without one a GPU when there is one, else the CPU.

    Raises:
        C4CError: there is no such device here.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # a number has to come back: from "meta" none does
    except Exception as error:  # torch raises AssertionError, RuntimeError and its own here
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if reason.startswith("Expected one of"):
            reason = "there is no such kind of device"
        raise C4CError(
            f"--device {name} cannot be used: {reason}. Pass cpu, cuda or cuda:1, or leave it out."
        ) from None
    return device


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """``tensor`` on ``device``; a copy to a GPU runs beside what the program does next.

    It is from pinned memory, which the GPU reads by itself; what is computed there waits for it.
    """
    leaves = tensor.device.type == "cpu" and device.type == "cuda"
    return (tensor.pin_memory() if leaves else tensor).to(device, non_blocking=leaves)
