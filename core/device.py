"""``--device``: what it names, tried before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c4c.errors import C4CError

if TYPE_CHECKING:
    import torch


def open_device(name: str | None) -> torch.device:
    """The device of that name; without one a GPU when there is one, else the CPU.

    Raises:
        C4CError: it does not exist or cannot be used; the message says why.
    """
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.empty(1, device=name).device
    except Exception as error:  # torch raises AssertionError, RuntimeError and its own here
        reason = (str(error).splitlines() or ["unusable"])[0]
        raise C4CError(f"--device {name} cannot be used: {reason}") from None
    if found.type == "meta":
        raise C4CError("--device meta holds no numbers; pass cpu, or a GPU such as cuda:0.")
    return found
