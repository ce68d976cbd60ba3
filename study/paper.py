"""The table of a study as papers print it: both directions, mean ± deviation over seeds.

Published figures of the same variants stand below what was measured, each with its source. The
same rows go into the report, and as Markdown and LaTeX into files of their own.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from typing import Any

import numpy as np

from c4c.core.terminal import visible
from c4c.study.spec import Study
from c4c.study.summary import Variant, results_of_variant

WAYS = {"t2v": "Text to video", "v2t": "Video to text"}
# What every direction's columns hold: the name in a results file, and the head of the column.
_COLUMNS = {
    "r1": "R@1",
    "r5": "R@5",
    "r10": "R@10",
    "median_rank": "MdR",
    "mean_rank": "MnR",
}
_FIGURES = [(way, name) for way in WAYS for name in _COLUMNS]
_NONE = "–"


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table.

    Attributes:
        dataset: its name.
        method: the variant, or what a published figure is of.
        cells: a text for each figure, one direction after the other.
        source: who measured it.
        published: whether that was somebody else.
    """

    dataset: str
    method: str
    cells: tuple[str, ...]
    source: str
    published: bool = False


def paper_lines(
    study: Study, variants: Sequence[Variant], results: Sequence[dict[str, Any]]
) -> list[Line]:
    """Rows of everything that was measured, and below it of what is published of the same.

    Args:
        study: the study.
        variants: what was found.
        results: contents of its runs' result files.
    """
    measured = [_measured(one, results_of_variant(one, results)) for one in variants]
    return [*measured, *published(study, variants, results)]


def _measured(one: Variant, runs: Sequence[dict[str, Any]]) -> Line:
    cells = []
    for way, name in _FIGURES:
        values = [run["evaluation"]["metrics"][way][name] for run in runs]
        spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        cells.append(f"{np.mean(values):.1f}{spread}")
    seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
    return Line(one.dataset, one.label, tuple(cells), f"measured here, {seeds}")


def published(
    study: Study, variants: Sequence[Variant], results: Sequence[dict[str, Any]] = ()
) -> list[Line]:
    """The paper's figures of the same variants, then those of other models on the same data.

    Args:
        study: the study.
        variants: what was found.
        results: of its runs, whose settings count too.
    """
    content = tomllib.loads((files("c4c.study") / "published.toml").read_text("utf-8"))
    same: list[Line] = []
    others: dict[str, Line] = {}
    for one in variants:
        settings = {"train_split": "train", **study.settings, **one.settings}
        settings |= next((run.get("settings", {}) for run in results_of_variant(one, results)), {})
        settings["backbone"] = str(settings.get("backbone")).partition(":")[0]
        for entry in content["figures"]:
            there = (entry["dataset"], entry["study"]) == (one.dataset, study.name)
            if not there or not entry["variant"].items() <= settings.items():
                continue
            method = f"{one.label} ({entry['note']})" if entry["variant"] else entry["note"]
            line = _line(entry, method, entry.get("source", content["source"]))
            if entry["variant"]:
                same.append(line)
            else:
                others[entry["note"]] = line
    return [*same, *others.values()]


def _line(entry: dict[str, Any], method: str, source: str) -> Line:
    names = [f"{way}_{name}" for way, name in _FIGURES]
    cells = tuple(f"{entry[name]:.1f}" if name in entry else _NONE for name in names)
    return Line(entry["dataset"], method, cells, source, True)


def header() -> list[str]:
    """Heads of the columns, directions spelled out."""
    return ["dataset", "method", *(f"{way} {_COLUMNS[name]}" for way, name in _FIGURES), "source"]


def rows(table: Sequence[Line]) -> list[list[str]]:
    """The table with its header, a cell a column."""
    return [header(), *([one.dataset, one.method, *one.cells, one.source] for one in table)]


def short_rows(table: Sequence[Line]) -> list[list[str]]:
    """The table for a page: method and source in one cell, deviations below their figures."""
    head = ["", *header()[2:-1]]
    body = [
        [f"{one.dataset}: {one.method}\n{one.source}", *(c.replace(" ±", "\n±") for c in one.cells)]
        for one in table
    ]
    return [head, *body]


def latex(table: Sequence[Line], how: str) -> str:
    """The table in LaTeX, for the package booktabs.

    Args:
        table: its rows.
        how: how the figures came about; a comment above the table.
    """
    ways = " & ".join(
        rf"\multicolumn{{{len(_COLUMNS)}}}{{c}}{{{words}}}" for words in WAYS.values()
    )
    first, last = 3, 2 + len(_COLUMNS)
    rules = rf"\cmidrule(lr){{{first}-{last}}}\cmidrule(lr){{{last + 1}-{last + len(_COLUMNS)}}}"
    heads = " & ".join(_COLUMNS[name] for _, name in _FIGURES)
    parts = [
        f"% {visible(how)}",
        rf"\begin{{tabular}}{{ll{'r' * len(_FIGURES)}l}}",
        r"\toprule",
        rf" & & {ways} & \\",
        rules,
        rf"Dataset & Method & {heads} & Source \\",
    ]
    for _, group in groupby(table, key=lambda one: (one.dataset, one.published)):
        parts += [r"\midrule", *map(_latex_row, group)]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}", ""])


def _latex_row(one: Line) -> str:
    cells = [tex(one.dataset), tex(one.method), *map(tex, one.cells), tex(one.source)]
    return " & ".join(cells) + r" \\"


_SPECIAL: dict[str, str] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def tex(text: str) -> str:
    r"""Foreign text in LaTeX, as it is and no markup.

    >>> print(tex(r"max_frames 8, 50 % \input{x} 1.0 ± 0.2"))
    max\_frames 8, 50 \% \textbackslash{}input\{x\} 1.0 $\pm$ 0.2
    """
    sign: Callable[[re.Match[str]], str] = lambda found: _SPECIAL[found[0]]  # noqa: E731
    return re.sub("[" + re.escape("".join(_SPECIAL)) + "]", sign, visible(text))
