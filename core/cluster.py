"""The Ray cluster that work is handed to."""

from __future__ import annotations

import socket
from typing import Any

from c4c.core.errors import C4CError

ENGINES = ("local", "ray")


def check_engine(engine: str, address: str | None) -> None:
    """Refuse the address of a cluster that is not asked for."""
    if address and engine != "ray":
        raise C4CError("--address is of a Ray cluster; pass --engine ray too.")


def connect(address: str | None) -> Any:
    """Ray, connected to a cluster.

    Args:
        address: of the cluster; ``None`` is Ray's own choice, which may be this machine.

    Raises:
        C4CError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError:
        raise C4CError("--engine ray needs Ray: pip install 'c4c[ray]'.") from None
    try:
        host, _, port = (address or "").rpartition(":")
        if port.isdigit():  # Ray itself tries a dead address for minutes
            socket.create_connection((host.removeprefix("ray://"), int(port)), 10).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises many types here
        reason = str(error).splitlines()[0][:200]
        raise C4CError(f"No Ray cluster at {address or 'this machine'}: {reason}") from None
    return ray
