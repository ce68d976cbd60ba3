"""How much memory a backbone needs, known before it is built."""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from functools import cache
from importlib.resources import files
from pathlib import Path

from c4c.core.errors import C4CError
from c4c.core.groups import OWN, ROOT, control_groups

_FLOAT = 4  # bytes: towers are built in float32
_AGES = ("active", "inactive")


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


def available(root: Path = ROOT, own: Path = OWN) -> float:
    """Bytes of memory that this process can still take: the machine's, or its control groups'.

    Args:
        root: where control groups are mounted.
        own: the file that says in which of them this process is.
    """
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError, StopIteration):
        about = Path("/proc/meminfo").read_text().splitlines()
        line = next(one for one in about if one.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024
    return min(free, *(_left(folder) for folder in control_groups("memory", root, own)))


def _left(folder: Path) -> float:
    """Bytes that a control group may still take; infinity when it does not say."""
    names = ("memory.max", "memory.current")
    if not (folder / names[0]).exists():
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    try:
        limit, used = (int((folder / name).read_text()) for name in names)
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # "max" is no number
        return math.inf
    # Pages of files that were read count as used, and are given back when memory is wanted.
    pages = (stat.get(f"total_{age}_file", stat.get(f"{age}_file", 0)) for age in _AGES)
    return limit - used + sum(map(int, pages))
