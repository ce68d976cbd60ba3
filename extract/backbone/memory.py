"""How much memory a backbone needs, known before it is built."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path

from c4c.core.errors import C4CError

_FLOAT = 4  # bytes: towers are built in float32
_GROUP = Path("/sys/fs/cgroup")


@cache
def sizes() -> dict[str, int]:
    """Parameters of open_clip's models by name, as ``make backbones`` counted them."""
    found: dict[str, int] = json.loads((files("c4c.extract.backbone") / "sizes.json").read_text())
    return found


def check_memory(name: str, loaded: bool) -> None:
    """Refuse a model that does not fit into memory, before any of it is taken.

    Args:
        name: open_clip's name; of others nothing is known.
        loaded: weights are read too, and stand beside the model until they are in it.

    Raises:
        C4CError: it does not fit.
    """
    count = sizes().get(name)
    if count is None:
        return
    need, free = count * _FLOAT * (2 if loaded else 1), available()
    if need > free:
        raise C4CError(
            f"{name} has {count / 1e6:,.0f} million parameters and takes {need / 1e9:.1f} GB to "
            f"build; {free / 1e9:.1f} GB of memory are free. c4c backbones lists smaller ones."
        )


def available() -> int:
    """Bytes of memory that this process can still take: the machine's, or its control group's."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError, StopIteration):
        about = Path("/proc/meminfo").read_text().splitlines()
        line = next(one for one in about if one.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024
    with suppress(OSError, ValueError):  # "max" is no number
        limit = int((_GROUP / "memory.max").read_text())
        free = min(free, limit - int((_GROUP / "memory.current").read_text()))
    return free
