"""kill -9 at random moments: is nothing acknowledged lost, and the result that of no kill at all?

    python benchmarks/kill.py --kills 1000 --json FILE

Every command that writes is killed (``kill_cases.py``), by turns at a moment drawn from its whole
duration, and in a commit: when something shows up under a temporary name, or some milliseconds
later. A kill that fell inside a commit leaves that behind; how many did is counted, not assumed.
After each kill what had been acknowledged must be there and whole; then the same command goes on,
and is killed again. When one ends by itself, its result must be the undisturbed run's, byte for
byte where it does not tell of time and place. The last one of each command is left in peace, and
for an extraction two finish it at once. Any difference: exit 1.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import click
from kill_cases import CASES, Case, Stands, lost, observed

from c4c.core.errors import C4CError
from c4c.core.files import write_json
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract

WARM = [
    "kill_cases", "open_clip", "c4c.extract.backbone.backbone", "c4c.extract.pipeline",
    "c4c.retrieval.searcher", "c4c.retrieval.evaluate", "c4c.study.run",
    "c4c.training.cached", "c4c.training.e2e",
]  # fmt: skip
LATE = (0.0, 0.0, 0.003, 0.03)  # seconds after the beginning of a commit at most


def run(case: Case, here: Path) -> None:
    """What a process does that is killed: the command, its words in a file beside its folder."""
    import torch

    torch.set_num_threads(1)
    words = os.open(f"{here}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(words, stream)
    case.work(here)


def start(case: Case, here: Path) -> BaseProcess:
    """Begin the command in a process that has everything imported and nothing else done."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(WARM)
    process = context.Process(target=run, args=(case, here))
    process.start()
    return process


def finish(case: Case, here: Path, processes: int = 1) -> None:
    """Run to the end; a run that fails undisturbed ends the benchmark."""
    running = [start(case, here) for _ in range(processes)]
    for process in running:
        process.join(300)
        if process.exitcode != 0:
            raise SystemExit(f"{here.name} ended with {process.exitcode}: {last_words(here)}")


def last_words(here: Path) -> str:
    """What a run said last."""
    return Path(f"{here}.log").read_text(errors="replace")[-500:]


class Victim:
    """One command: kills, looks, and counts.

    Attributes:
        count: what happened how often.
        wrong: what should not be, a line each.
    """

    def __init__(self, name: str, case: Case, place: Path, draw: random.Random) -> None:
        self.name, self.case, self.place, self.draw = name, case, place, draw
        self.count: Counter[str] = Counter()
        self.wrong: list[str] = []
        undisturbed = place / f"{name}-undisturbed"
        case.begin(place / f"{name}-warm")
        finish(case, place / f"{name}-warm")
        case.begin(undisturbed)
        began = time.monotonic()
        process = start(case, undisturbed)
        self.commits = self._watch(undisturbed, process, 1 << 30)
        process.join()
        self.span = time.monotonic() - began
        self.whole = case.result(undisturbed)
        if self.whole != case.result(place / f"{name}-warm"):
            raise SystemExit(f"{name}: two undisturbed runs differ; nothing can be compared")
        self._anew()

    def _anew(self) -> None:
        self.here = self.place / f"{self.name}-{self.count['completed']}"
        self.case.begin(self.here)

    def _watch(self, here: Path, process: BaseProcess, commits: int) -> int:
        """Wait until so many things showed up under temporary names, or the end; how many did."""
        seen, count = self.case.halves(here), 0
        while process.is_alive() and count < commits:
            fresh = self.case.halves(here) - seen
            seen |= fresh
            count += len(fresh)
        return count

    def kill(self) -> None:
        """Start the command, and kill it; a run that ends before is compared, and another begun."""
        how = ("random", "commit")[self.count["kills"] % 2]
        stood, left = observed(self.case, self.here), self.case.halves(self.here)
        process = start(self.case, self.here)
        if how == "commit":
            self._watch(self.here, process, 1 + self.draw.randrange(1 + self.commits // 2))
            time.sleep(self.draw.random() * self.draw.choice(LATE))
        else:
            process.join(self.draw.random() * self.span)
            stood |= observed(self.case, self.here)
        alive = process.is_alive()
        process.kill()
        process.join()
        if not alive and process.exitcode != 0:
            self._note(f"went on and ended with {process.exitcode}: {last_words(self.here)}")
        elif not alive:
            self._compare()
        else:
            self.count["kills"] += 1
            self.count[how] += 1
            self.count["inside a commit"] += bool(self.case.halves(self.here) - left)
            self._look(stood)

    def _look(self, stood: Stands) -> None:
        """Note what was acknowledged and is lost, and what is not whole."""
        try:
            found = lost(stood, self.case.stands(self.here))
            found += self.case.wrong(self.here, self.whole)
        except C4CError as error:
            found = [str(error)]
        for line in found:
            self._note(line)

    def _compare(self) -> None:
        found = self.case.result(self.here)
        differing = [
            key
            for key in found.keys() | self.whole.keys()
            if found.get(key) != self.whole.get(key) or key not in found
        ]
        for key in sorted(differing)[:5]:
            shown = str(found.get(key))[:200] if isinstance(found.get(key), list) else ""
            self._note(f"the finished run differs from the undisturbed one: {key} {shown}")
        self.count["completed"] += 1
        shutil.rmtree(self.here)
        self._anew()

    def end(self) -> None:
        """Let the command come to its end in peace."""
        finish(self.case, self.here, 2 if self.name == "extract" else 1)
        self._compare()

    def _note(self, line: str) -> None:
        self.wrong.append(f"{self.name}, kill {self.count['kills']}: {line}")
        click.echo(self.wrong[-1], err=True)

    def told(self) -> dict[str, Any]:
        """What there is to say, as plain data."""
        return {"span_s": round(self.span, 2), "commits": self.commits, **self.count}


@click.command()
@click.option("--kills", default=100, show_default=True, help="Of all commands together.")
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
@click.option("--clips", default=24, show_default=True, help="For training; 4 more for each test.")
@click.option("--only", multiple=True, type=click.Choice(list(CASES)), help="Repeatable. [all]")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(kills: int, seed: int, clips: int, only: tuple[str, ...], path: Path | None) -> None:
    """Kill, look, and count."""
    names = only or tuple(CASES)
    began = time.monotonic()
    found: dict[str, Any] = {"kills": 0, "seed": seed, "clips": clips, "commands": {}}
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        root, base = here / "shapes", here / "base"
        make_shapes(root, Recipe(seed=3, train=clips, val=4, test=4))
        maker = CASES["extract"](root, base, here)
        run_extract(maker.extraction(base, ("train", "val", "test")))  # type: ignore[attr-defined]
        for number, name in enumerate(names):
            shared = here / f"{name}-shared"
            shared.mkdir()
            victim = Victim(name, CASES[name](root, base, shared), here, random.Random(seed))
            share = kills * (number + 1) // len(names) - kills * number // len(names)
            while victim.count["kills"] < share:
                victim.kill()
            victim.end()
            found["commands"][name] = victim.told()
            found["kills"] += victim.count["kills"]
            wrong += victim.wrong
            click.echo(f"{name}: {victim.told()}", err=True)
    found |= {"seconds": round(time.monotonic() - began), "wrong": wrong}
    click.echo(json.dumps(found, indent=1))
    if path:
        write_json(path, found)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
