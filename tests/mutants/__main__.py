"""Plants small mistakes in a copy of c4c, one at a time, and counts those that tests notice.

    python tests/mutants --minutes 55 --out docs/lab

Planted are the grave mistakes of ``mutants.toml``, then operator mutants of every room, drawn by
a seed, one of each room in turn, until the time is up. The tests that should notice run (also in
``mutants.toml``). Stopped at any moment, the same command goes on; changed code or tests begin
anew. With ids or files as arguments only those run. Exit 1 when a grave one was not noticed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import Tree, Verdict, preload
from operators import Mutant
from plan import Plan, chosen
from report import summarise, write_report

ROOT = Path(__file__).resolve().parents[2]
# Tests on a mutant may take PATIENCE times what they take without it, and SLACK seconds more.
PATIENCE, SLACK = 3.0, 30.0
BASELINE_LIMIT = 900.0  # seconds


class Journal:
    """Verdicts so far, by mutant's id or test file; kept in a file line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        whole = text.splitlines()[: text.count("\n")]  # the last line may have been cut short
        self.known: dict[str, dict[str, Any]] = {row["key"]: row for row in map(json.loads, whole)}

    def note(self, key: str, verdict: Verdict) -> None:
        """Keep a verdict."""
        self.known[key] = {"key": key, **asdict(verdict)}
        with self.path.open("a") as stream:
            stream.write(json.dumps(self.known[key]) + "\n")


class Work:
    """Children on trees, as many as there are trees."""

    def __init__(self, plan: Plan, trees: list[Tree], journal: Journal) -> None:
        self.plan, self.trees, self.journal = plan, trees, journal

    def free(self) -> Tree:
        """Wait for a tree without a child."""
        while True:
            self._collect()
            for tree in self.trees:
                if tree.key is None:
                    return tree
            time.sleep(0.02)

    def finish(self) -> None:
        """Wait for all children."""
        while any(tree.key is not None for tree in self.trees):
            self._collect()
            time.sleep(0.02)

    def _collect(self) -> None:
        for tree in self.trees:
            key, verdict = tree.key, tree.verdict()
            if key is not None and verdict is not None:
                self.journal.note(key, verdict)

    def time_tests(self, tests: Iterable[str]) -> None:
        """How long each test file takes without a mutant, and which of its tests fail then."""
        for test in dict.fromkeys(tests):
            if test not in self.journal.known:
                self.free().begin(test, None, [test], (), BASELINE_LIMIT)
        self.finish()
        for test in tests:
            row = self.journal.known[test]
            if not row["passed"] and row["failures"] in ([], ["hung"], ["died"]):
                sys.exit(f"{test} cannot be run: see {self.trees[0].path}/output.txt")

    def run(self, mutants: Iterable[Mutant], minutes: float) -> None:
        """Run the tests on every mutant that has no verdict yet, while there is time."""
        begun = time.monotonic()
        for mutant in mutants:
            if time.monotonic() - begun > 60 * minutes:
                break
            if mutant.id in self.journal.known or self.plan.why_equivalent(mutant):
                continue
            tests = self.plan.tests_for(mutant.file)
            before = [self.journal.known[test] for test in tests]
            failing = [one for row in before for one in row["failures"]]
            limit = SLACK + PATIENCE * sum(row["seconds"] for row in before)
            self.free().begin(mutant.id, mutant, tests, failing, limit)
            print(f"{mutant.file}:{mutant.line} {mutant.before} -> {mutant.after}", file=sys.stderr)
        self.finish()


def main() -> int:
    """Plant, run, tell."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("only", nargs="*", help="ids of mutants, or source files")
    words.add_argument("--minutes", type=float, default=55, help="time for mutants, in all")
    words.add_argument("--workers", type=int, default=2, help="mutants at a time")
    words.add_argument("--seed", type=int, default=0, help="of the draw")
    words.add_argument("--out", type=Path, help="folder for mutants.md and mutants.json")
    asked = words.parse_args()
    begun = time.monotonic()
    plan = Plan(ROOT)
    rooms = plan.by_room()
    mutants = list(plan.draw(rooms, asked.seed))
    if asked.only:
        mutants = chosen(mutants, asked.only)
    build = ROOT / "build" / "mutants"
    journal = Journal(build / f"{plan.digest(ROOT)}.jsonl")
    preload()
    work = Work(plan, [Tree(ROOT, build / f"tree-{n}") for n in range(asked.workers)], journal)
    try:
        work.time_tests([test for one in mutants for test in plan.tests_for(one.file)])
        work.run(mutants, asked.minutes - (time.monotonic() - begun) / 60)
    finally:
        for tree in work.trees:
            tree.end()
    table = summarise(plan, rooms, mutants, journal.known)
    if asked.out:
        write_report(asked.out, table, asked.seed)
    print(table.markdown())
    return int(bool(table.grave_survivors or plan.stale))


if __name__ == "__main__":
    sys.exit(main())
