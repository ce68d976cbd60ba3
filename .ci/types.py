"""Checks the types of every room with ``mypy --strict``, and that the check itself works.

Type checkers do not follow the mapping of rooms to ``c4c.<room>``, and can skip rooms
without a word. So the rooms are copied into a package tree, with a planted error in each:
the run is good when mypy finds the planted errors, all of them, and nothing else.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build" / "types"
ROOMS = re.findall(r'"(c4c[\w.]*)": "([\w/]+)"', (ROOT / "setup.py").read_text())


def main() -> int:
    """Copy, plant, check; 0 when only the planted errors are there."""
    shutil.rmtree(TREE, ignore_errors=True)
    for name, folder in ROOMS:
        target = TREE / name.replace(".", "/")
        target.mkdir(parents=True, exist_ok=True)
        for source in (ROOT / folder).glob("*.py"):
            shutil.copy(source, target)
        (target / "planted_error.py").write_text('number: int = "text"\n')
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "c4c"],
        cwd=TREE,
        capture_output=True,
        text=True,
    )
    errors = [line for line in run.stdout.splitlines() if ": error:" in line]
    planted = [line for line in errors if "planted_error.py" in line]
    found = [line for line in errors if line not in planted]
    print("\n".join(found) or run.stderr, end="\n" if found else "")
    print(f"mypy: {len(found)} errors; {len(planted)} of {len(ROOMS)} planted errors seen")
    return int(bool(found) or len(planted) != len(ROOMS))


if __name__ == "__main__":
    sys.exit(main())
