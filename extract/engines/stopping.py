"""What an engine says when it was asked to stop."""

from __future__ import annotations

from c4c.core.errors import Interrupted
from c4c.core.signals import StopRequest


def stopped(stop: StopRequest) -> Interrupted:
    """The error to raise: the same command goes on."""
    return stop.error(f"stopped by {stop.name}; what was whole is kept: the same command goes on")
