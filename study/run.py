"""``c4c study``: plan, run what is missing, and tell what was found."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic, write_json
from c4c.core.lock import one_writer
from c4c.core.progress import say
from c4c.core.terminal import visible
from c4c.retrieval.table import render
from c4c.study.config import StudyConfig
from c4c.study.details import settings_of
from c4c.study.execute import results_of, run_jobs, study_folder
from c4c.study.paper import latex, paper_lines
from c4c.study.plan import plan_study
from c4c.study.report import how_made, html_page, markdown, paper_markdown, rows_of, verdicts
from c4c.study.spec import Study
from c4c.study.summary import summarise_runs


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study left.

    Attributes:
        folder: with runs.csv, runs.jsonl, summary.json, report.md, report.html, and the table as
            papers print it in table.md and table.tex.
        table: figures and verdicts as text.
        done: runs that are done.
        wanted: runs of the whole study.
    """

    folder: Path
    table: str
    done: int
    wanted: int


def run_study(config: StudyConfig) -> StudyResult:
    """Run a study; what an earlier run finished is kept.

    Raises:
        C4CError: no such study, settings that cannot be, or data that cannot be used.
        Interrupted: stopped on request; run again to go on.
    """
    study, config, runs = plan_study(config)
    folder = study_folder(study, config)
    run_jobs(study, config, runs)
    with one_writer(folder, wait=True):  # of parts that end together, the last has all results
        results = results_of(study, config, runs)
        if not results:
            raise C4CError(f"{folder}: no run is done yet in this part; other parts go on.")
        return _tell(study, folder, results, len(runs))


def _tell(study: Study, folder: Path, results: list[dict[str, Any]], wanted: int) -> StudyResult:
    """Write tables and reports."""
    variants = summarise_runs(study, results)
    rows = [tidy(one) for one in results]
    write_atomic(folder / "runs.csv", as_csv(rows).encode("utf-8", "surrogateescape"))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomic(folder / "runs.jsonl", lines.encode())
    write_json(folder / "summary.json", [asdict(one) for one in variants])
    told = (study, variants, results, wanted)
    write_atomic(folder / "report.md", markdown(*told).encode())
    write_atomic(folder / "report.html", html_page(*told).encode())
    write_atomic(folder / "table.md", f"{paper_markdown(study, variants, results)}\n".encode())
    paper = latex(paper_lines(study, variants, results), how_made(study, results, wanted))
    write_atomic(folder / "table.tex", paper.encode())
    say(f"{len(results)} of {wanted} runs are done; report: {folder / 'report.html'}")
    text = "\n".join([render(rows_of(variants)), *map(visible, verdicts(study, variants))])
    return StudyResult(folder, text, len(results), wanted)


def tidy(result: dict[str, Any]) -> dict[str, Any]:
    """One run as one row: what was varied, what came out, and what made it."""
    found = result["evaluation"]
    source = found["source"]
    row: dict[str, Any] = {key: result[key] for key in ("study", "mode", "dataset")}
    row |= result["variant"]
    row["seed"] = result["seed"]
    for way, figures in found["metrics"].items():
        kept = ("r1", "r5", "r10", "r50", "median_rank", "mean_rank", "rsum")
        row |= {f"{way}_{name}": figures[name] for name in kept}
    there = found["metrics"]["t2v"]
    row["twin_accuracy"] = found["twin_accuracy"]
    row |= {"gallery": there["gallery"], "gallery_expected": there["gallery_expected"]}
    row |= {key: source[key] for key in ("split", "chosen_on", "model", "weights", "checkpoint")}
    row["parameters"] = result.get("parameters")
    row |= {key: result[key] for key in ("seconds", "version", "revision")}
    row["notes"] = "; ".join(found["notes"])
    return {**row, **{key: value for key, value in settings_of(result).items() if key not in row}}


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV with a header; a cell that a row lacks is empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
