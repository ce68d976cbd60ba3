"""How many cores this process may use: the machine's, less what it is denied."""

from __future__ import annotations

import math
import os
from pathlib import Path

from c4c.core.groups import OWN, ROOT, control_groups


def cores(root: Path = ROOT, own: Path = OWN) -> int:
    """Cores that this process may run on, or its CPU quota where that is less.

    A container may see all of a machine's cores and be given the time of two of them
    (``docker run --cpus 2``); a process a core would only take turns there.

    Args:
        root: where control groups are mounted.
        own: the file that says in which of them this process is.
    """
    allowed = len(os.sched_getaffinity(0))
    quota = min((_quota(folder) for folder in control_groups("cpu", root, own)), default=math.inf)
    return max(1, min(allowed, math.ceil(quota))) if quota < math.inf else allowed


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
