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
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
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
AHEAD = 20  # mutants that may wait for the timing of their tests


class Journal:
    """Verdicts so far, by ``Plan.key`` or test file; kept in a file line by line."""

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


@dataclass(frozen=True, slots=True)
class Job:
    """One test file to run: on a mutant, or without one to know what is usual.

    Attributes:
        key: what the verdict is of.
        test: the file.
        mutant: the mistake, if there is one.
        left: test files that come next when this one notices nothing.
        seconds: that those before it took.
    """

    key: str
    test: str
    mutant: Mutant | None = None
    left: tuple[str, ...] = ()
    seconds: float = 0.0


class Work:
    """Children on trees, as many as there are trees."""

    def __init__(self, plan: Plan, trees: list[Tree], journal: Journal) -> None:
        self.plan, self.trees, self.journal = plan, trees, journal
        self._running: dict[Tree, Job] = {}
        self._waiting: list[Job] = []

    def run(self, mutants: Iterable[Mutant], minutes: float) -> None:
        """Run the tests on every mutant that has no verdict yet, while there is time."""
        end = time.monotonic() + 60 * minutes
        todo = (one for one in mutants if not self._settled(one))
        more = True
        while more or self._waiting or self._running:
            self._collect()
            if len(self._running) == len(self.trees) or self._start():
                continue
            more = more and time.monotonic() < end
            if more and len(self._waiting) < AHEAD:
                more = self._await(next(todo, None))

    def _await(self, mutant: Mutant | None) -> bool:
        """Put a mutant's first tests in the queue; false when there is no mutant left."""
        if mutant is None:
            return False
        test, *left = self.plan.tests_for(mutant.file)
        self._waiting.append(Job(self.plan.key(mutant), test, mutant, tuple(left)))
        return True

    def _settled(self, mutant: Mutant) -> bool:
        return self.plan.key(mutant) in self.journal.known or bool(self.plan.why_equivalent(mutant))

    def _start(self) -> bool:
        """Begin a job that can be begun; first of all the timing of tests that others wait for."""
        timed = {job.key for job in self._running.values()}
        for place, job in enumerate(self._waiting):
            usual = self.journal.known.get(job.test)
            if usual is not None:
                del self._waiting[place]
                self._begin(job, usual["failures"], SLACK + PATIENCE * usual["seconds"])
                return True
            if job.test not in timed:
                self._begin(Job(job.test, job.test), (), BASELINE_LIMIT)
                return True
        return False

    def _begin(self, job: Job, failing: Sequence[str], limit: float) -> None:
        tree = next(tree for tree in self.trees if tree not in self._running)
        tree.begin(job.mutant, job.test, failing, limit)
        self._running[tree] = job
        if mutant := job.mutant:
            words = f"{mutant.file}:{mutant.line} {mutant.kind}: {mutant.before} -> {mutant.after}"
            print(f"{job.test}: {' '.join(words.split())}", file=sys.stderr)

    def _collect(self) -> None:
        """Take the verdicts of children that have ended."""
        time.sleep(0.02)
        for tree, job in list(self._running.items()):
            verdict = tree.verdict()
            if verdict is None:
                continue
            del self._running[tree]
            seconds = round(job.seconds + verdict.seconds, 2)
            # Without a mistake tests may fail, by name; that none ran would make all noticed.
            broken = not verdict.passed and not verdict.failures
            if job.mutant is None and (broken or set(verdict.failures) & {"hung", "died"}):
                sys.exit(f"{job.test} cannot be run: see {tree.path}/output.txt")
            if verdict.passed and job.left:
                test, *left = job.left
                self._waiting.append(Job(job.key, test, job.mutant, tuple(left), seconds))
            else:
                self.journal.note(job.key, replace(verdict, seconds=seconds))


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
    mutants = chosen(mutants, asked.only) if asked.only else mutants
    build = ROOT / "build" / "mutants"
    journal = Journal(build / f"{plan.digest(ROOT)}.jsonl")
    preload()
    work = Work(plan, [Tree(ROOT, build / f"tree-{n}") for n in range(asked.workers)], journal)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # children are ended, as by Ctrl-C
    try:
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
