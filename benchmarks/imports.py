"""What ``import c4c`` costs over a bare Python, in milliseconds.

    python benchmarks/imports.py [--json FILE]

Both are started in turn, many times; the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 25


def started(code: str) -> float:
    """Seconds that an interpreter needs to carry out ``code``."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    times: dict[str, list[float]] = {"pass": [], "import c4c": []}
    for _ in range(RUNS):
        for code, spent in times.items():
            spent.append(started(code))
    bare, whole = (1000 * statistics.median(spent) for spent in times.values())
    print(f"python {bare:.1f} ms, with import c4c {whole:.1f} ms: {whole - bare:.1f} ms more")
    if options.json:
        figures = {"bare_ms": bare, "import_ms": whole, "more_ms": whole - bare, "runs": RUNS}
        options.json.write_text(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
