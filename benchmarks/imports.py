"""What ``import c4c`` costs over a bare Python, in milliseconds.

    python benchmarks/imports.py [--json FILE]

Both are started in turn, many times; the medians are compared.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import click
from figures import json_option, show


def started(code: str) -> float:
    """Seconds that an interpreter needs to carry out ``code``."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


@click.command()
@json_option
@click.option("--repeats", default=25, show_default=True)
def main(repeats: int) -> None:
    """Print one JSON line: the medians, and their difference."""
    times: dict[str, list[float]] = {"pass": [], "import c4c": []}
    for _ in range(repeats):
        for code, spent in times.items():
            spent.append(started(code))
    bare, whole = (1000 * statistics.median(spent) for spent in times.values())
    line = {"python": bare, "with import c4c": whole, "more": whole - bare}
    show({f"{name}, ms": round(value, 1) for name, value in line.items()})


if __name__ == "__main__":
    main()
