"""What a run of mutants found, as Markdown and JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from operators import Mutant
from plan import Plan, room_of

HEAD = """# Mutants: which planted mistakes the suite notices

Made by `make mutants` (tests/mutants): small mistakes are planted in a copy of the code, one at a
time, and the tests that should notice run. Grave ones are written by hand
(`tests/mutants/mutants.toml`), the others are drawn from all that a few rules make of the source
(a comparison swapped, off by one, a call, an argument or a statement forgotten, arguments in the
wrong order, a constant, a condition turned round). *Equivalent* ones change nothing a test could
see; each stands in the list with its reason, and is not counted. A mistake that ends the tests at
their limit of time counts as noticed. The C code is not mutated.

Why no other tool: mutmut takes import names from paths, leaves out decorated functions and whatever
stands at module level, and neither draws a sample nor takes mistakes written by hand; cosmic-ray
changes the working tree and starts a whole interpreter for every mutant.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """Counts of one room.

    Attributes:
        there: operator mutants that the rules make.
        tried: how many were run.
        noticed: how many of them made a test fail, or hang.
        equivalent: how many of those drawn are known to change nothing.
    """

    room: str
    there: int
    tried: int
    noticed: int
    equivalent: int


@dataclass(frozen=True, slots=True)
class Table:
    """What was found.

    Attributes:
        rows: a row a room.
        grave: hand-written mutants that were run.
        grave_survivors: those that nothing noticed; ``survivors``, of the drawn ones.
        stale: entries of the list that fit nothing any more.
        told: every mutant that was run, as plain data.
    """

    rows: tuple[Row, ...]
    grave: int
    grave_survivors: tuple[Mutant, ...]
    survivors: tuple[Mutant, ...]
    stale: tuple[str, ...]
    told: tuple[dict[str, Any], ...]

    def markdown(self) -> str:
        """The tables, without the words around them."""
        rows = [*self.rows, _total(self.rows)]
        lines = [
            f"Grave mistakes: {self.grave - len(self.grave_survivors)} of {self.grave} noticed.",
            "",
            "| room | mutants | tried | noticed | survived | equivalent | score |",
            "| --- | --: | --: | --: | --: | --: | --: |",
        ]
        for row in rows:
            score = f"{100 * row.noticed / row.tried:.0f} %" if row.tried else "–"
            cells = (row.there, row.tried, row.noticed, row.tried - row.noticed, row.equivalent)
            lines.append(f"| {row.room} | {' | '.join(map(str, cells))} | {score} |")
        for title, mutants in (
            ("Grave and not noticed", self.grave_survivors),
            ("Not noticed", self.survivors),
        ):
            lines += ["", f"## {title}", "", *_listed(mutants)] if mutants else []
        if self.stale:
            lines += ["", "## Fits nothing any more", "", *(f"- {one}" for one in self.stale)]
        return "\n".join(lines) + "\n"


def summarise(
    plan: Plan,
    rooms: dict[str, list[Mutant]],
    drawn: Sequence[Mutant],
    known: dict[str, dict[str, Any]],
) -> Table:
    """Counts and survivors of what was run."""
    verdicts = {one.id: known[plan.key(one)] for one in drawn if plan.key(one) in known}
    run = [one for one in drawn if one.id in verdicts]
    reached = drawn.index(run[-1]) + 1 if run else 0
    same = [one for one in drawn[:reached] if plan.why_equivalent(one) and one.kind != "grave"]
    alive = [one for one in run if verdicts[one.id]["passed"]]
    rows = []
    for room, there in rooms.items():
        own = [one for one in run if room_of(one.file) == room and one.kind != "grave"]
        lost = [one for one in alive if one in own]
        equal = sum(room_of(one.file) == room for one in same)
        rows.append(Row(room, len(there), len(own), len(own) - len(lost), equal))
    return Table(
        tuple(rows),
        sum(one.kind == "grave" for one in run),
        tuple(one for one in alive if one.kind == "grave"),
        tuple(one for one in alive if one.kind != "grave"),
        tuple(plan.stale),
        tuple(_told(one, verdicts[one.id]) for one in run),
    )


def write_report(folder: Path, table: Table, seed: int) -> None:
    """``mutants.md`` and ``mutants.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = f"Seed {seed}; {platform.processor() or platform.machine()}, Python "
    machine += f"{platform.python_version()}.\n"
    (folder / "mutants.md").write_text("\n".join((HEAD, machine, table.markdown())))
    found = {"seed": seed, "rows": [asdict(row) for row in table.rows], "mutants": table.told}
    (folder / "mutants.json").write_text(json.dumps(found, indent=1) + "\n")


def _total(rows: Sequence[Row]) -> Row:
    sums = [sum(getattr(row, name) for row in rows) for name in Row.__slots__[1:]]
    return Row("all", *sums)


def _listed(mutants: Sequence[Mutant]) -> list[str]:
    return [
        f"- `{one.id}` {one.file}:{one.line}, {one.kind}: `{_short(one.before)}` → "
        f"`{_short(one.after)}`"
        for one in mutants
    ]


def _short(code: str) -> str:
    return " ".join(code.split()).replace("`", "'")[:160]


def _told(mutant: Mutant, verdict: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": mutant.id,
        "file": mutant.file,
        "line": mutant.line,
        "kind": mutant.kind,
        "before": mutant.before,
        "after": mutant.after,
        "noticed": not verdict["passed"],
        "by": verdict["failures"][:1],
        "seconds": verdict["seconds"],
    }
