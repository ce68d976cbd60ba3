"""The control groups of this process: what a container or a job may take of the machine."""

from __future__ import annotations

from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def control_groups(controller: str, root: Path = ROOT, own: Path = OWN) -> list[Path]:
    """The folders of this process's control groups and those above them, both versions.

    Args:
        controller: what is limited there: ``cpu`` or ``memory``.
        root: where control groups are mounted.
        own: the file that says in which of them this process is.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    folders = [root, root / controller]  # inside a container its own group is the root
    for line in lines:
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        inner = base / path.lstrip("/")
        folders += [one for one in (inner, *inner.parents) if one.is_relative_to(base)]
    return list(dict.fromkeys(folders))
