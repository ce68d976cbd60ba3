"""How many cores this process may use: the machine's, less what it is denied."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cores(root: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")) -> int:
    """Cores that this process may run on, or its CPU quota where that is less.

    A container may see all of a machine's cores and be given the time of two of them
    (``docker run --cpus 2``); a process a core would only take turns there.

    Args:
        root: where control groups are mounted.
        own: the file that says in which of them this process is.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = min((_quota(folder) for folder in _groups(root, own)), default=math.inf)
    return max(1, min(allowed, math.ceil(quota))) if quota < math.inf else allowed


def _groups(root: Path, own: Path) -> list[Path]:
    """The folders of this process's control groups and those above them, both versions."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    folders = [root, root / "cpu"]  # inside a container its own group is the root
    for line in lines:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        inner = base / path.lstrip("/")
        folders += [one for one in (inner, *inner.parents) if one.is_relative_to(base)]
    return list(dict.fromkeys(folders))


def _quota(folder: Path) -> float:
    """Cores' worth of time that a control group gives; infinity when it does not say."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()[:2]
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / name).read_text() for name in names)
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
