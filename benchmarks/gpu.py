"""The kernels on a GPU: checks against float64, then times against ceilings and peers.

Needs a checkout, torch and Triton, nothing installed and no network, and takes less than eight
minutes. Each group of cases runs in a process of its own, so that nothing that goes wrong ends
the others; each case is a line of JSON, printed and appended to a file as soon as it is known.
A table for docs/explanation/kernels.md comes last. Exits with 1 where a check did not hold.

    python benchmarks/gpu.py --json figures/gpu.jsonl [--only checks]

``--rehearse`` runs the same on a CPU, in Triton's interpreter and at tiny sizes: that shows that
the script works, and its times mean nothing.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

# Groups and their seconds at most. Checks run side by side, for most of their time is the
# compiler's; times are taken alone, and what is slow to begin comes last.
WAVES = (
    {
        "checks of top-k": 150,
        "checks of bounds": 150,
        "checks of ranks": 150,
        "checks of pooling": 150,
        "checks of the loss": 150,
    },
    {"times of top-k": 120},
    {"times of the loss": 75},
    {"times of pooling": 60},
    {"times of ranks": 45},
    {"times of files": 60},
    {"times of libraries": 60},
    {"times of compiled code": 90},
)
MINUTES = 7.5


def run_group(name: str, path: Path, rehearse: bool) -> None:
    """All cases of a group, in this process."""
    from gpu_bench import Bench
    from gpu_checks import CHECKS
    from gpu_checks_topk import CHECKS as CHECKS_OF_TOPK
    from gpu_peers import PEERS
    from gpu_times import TIMES

    {**CHECKS, **CHECKS_OF_TOPK, **TIMES, **PEERS}[name](Bench(name, path, rehearse))


def run_apart(wave: dict[str, float], path: Path, rehearse: bool) -> None:
    """Groups in a child each, ended when their time is over; says so in the file."""
    begin, fork = time.monotonic(), multiprocessing.get_context("fork")
    children = {name: fork.Process(target=run_group, args=(name, path, rehearse)) for name in wave}
    for child in children.values():
        child.start()
    for name, child in children.items():
        child.join(max(begin + wave[name] - time.monotonic(), 0))
        why = f"not done after {wave[name]:.0f} seconds" if child.is_alive() else None
        child.kill()
        child.join()
        if why or child.exitcode:
            line = {"group": name, "case": "the group", "failed": why or f"status {child.exitcode}"}
            with path.open("a") as file:
                print(json.dumps(line), file=file)
            print(json.dumps(line), flush=True)


def table(lines: list[dict[str, Any]]) -> str:
    """What was timed, each beside its floor and the best of its peers."""
    rows = [
        "| | ms | floor | share of it | best peer | times faster | MB at peak |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    timed = [line for line in lines if "ms" in line]
    # What two groups time, each beside its own peers, is one row.
    own = {line["case"]: line for line in timed if line["by"] == "c4c"}
    for line in own.values():
        peers = [one for one in timed if one["case"] == line["case"] and one["by"] != "c4c"]
        best = min(peers, key=lambda peer: peer["ms"], default=None)
        told = f"{best['by']} {best['ms']:.3g} | {best['ms'] / line['ms']:.2g}" if best else " | "
        rows.append(
            f"| {line['case']} | {line['ms']:.3g} | {line['floor ms']:.3g} | "
            f"{line['share']:.2g} | {told} | {line['peak MB']:.0f} |"
        )
    return "\n".join(rows)


def summary(lines: list[dict[str, Any]]) -> tuple[str, int]:
    """Words on the checks, and how many lines tell of a failure."""
    checks = [line for line in lines if "ok" in line]
    wrong = [line for line in lines if line.get("ok") is False or "failed" in line]
    words = [f"{sum(line['ok'] for line in checks)} of {len(checks)} checks hold."]
    words += [f"- {one['group']}, {one['case']}: {one.get('failed', 'not equal')}" for one in wrong]
    return "\n".join(words), len(wrong)


def main() -> None:
    """Run the groups one after another, and print what came out."""
    parser = argparse.ArgumentParser(description="Check and time the kernels on a GPU.")
    parser.add_argument("--json", type=Path, required=True, help="File that lines are added to.")
    parser.add_argument("--only", default="", help="Groups whose name has this in it.")
    parser.add_argument("--rehearse", action="store_true", help="On a CPU, at tiny sizes.")
    options = parser.parse_args()
    if options.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), str(here.parent / "src")]
    # What takes seconds to import is imported once, for all children; operators import Dynamo at
    # their first call. Whether there is a GPU is asked in the way that leaves it
    # alone: a process that has touched it cannot have children that do.
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    import torch
    import torch._dynamo
    import triton  # noqa: F401

    if not (options.rehearse or torch.cuda.is_available()):
        parser.error("there is no GPU here; --rehearse runs everything on a CPU, at tiny sizes")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.touch()
    before, end = options.json.stat().st_size, time.monotonic() + 60 * MINUTES
    for wave in WAVES:
        left = end - time.monotonic()
        chosen = {name: min(most, left) for name, most in wave.items() if options.only in name}
        run_apart(chosen, options.json, options.rehearse)
    text = options.json.read_bytes()[before:].decode()
    lines = [json.loads(line) for line in text.splitlines()]
    words, wrong = summary(lines)
    print(f"\n{words}\n\n{table(lines)}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
