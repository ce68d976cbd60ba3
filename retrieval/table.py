"""Figures as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from c4c.core.terminal import visible
from c4c.retrieval.evaluate import Evaluation
from c4c.retrieval.metrics import Metrics

_HEADER = ("", "R@1", "R@5", "R@10", "R@50", "median", "mean", "MRR", "Rsum", "queries", "gallery")


def render(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text: the first column to the left, the others to the right."""
    rows = _shown(rows)
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _shown(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Cells as they will be printed, by whose width the columns are set."""
    return [[visible(cell) for cell in row] for row in rows]


def evaluation_table(found: Evaluation) -> str:
    """Both directions, the authors' column when there is one, twins and notes."""
    rows: list[Sequence[str]] = [_HEADER]
    names = {"t2v": "text to video", "v2t": "video to text"}
    for way, words in names.items():
        rows.append(_row(words, found.metrics[way]))
        if found.authors:
            rows.append(_row(f"{words}, authors' ties", found.authors[way]))
    lines = [found.head, render(rows)]
    if found.twins is not None:
        lines.append(f"twin accuracy {found.twins:.1f} % (50 is chance)")
    lines += [visible(f"note: {note}") for note in found.notes]
    return "\n".join(lines)


def _row(name: str, figures: Metrics) -> Sequence[str]:
    recalls = [f"{value:.1f}" for value in (figures.r1, figures.r5, figures.r10, figures.r50)]
    ranks = [f"{figures.median_rank:.1f}", f"{figures.mean_rank:.1f}", f"{figures.mrr:.3f}"]
    ranks.append(f"{figures.rsum:.1f}")
    whole = figures.gallery == figures.gallery_expected
    gallery = f"{figures.gallery}" + ("" if whole else f" of {figures.gallery_expected}")
    return [name, *recalls, *ranks, str(figures.queries), gallery]


def hits_table(hits: Sequence[Any]) -> str:
    """Ranked hits of one query: score, confidence in percent, clip and place; or sentences."""
    if hits and hasattr(hits[0], "text"):
        return "\n".join(f"{one.rank:>4}  {one.score:.4f}  {visible(one.text)}" for one in hits)
    told: list[Sequence[str]] = [("rank", "score", "sure", "clip", "where")]
    for hit in hits:
        end = "end" if hit.end is None else f"{hit.end:g}"
        span = "" if hit.end is None and not hit.start else f" {hit.start:g}-{end} s"
        best = "" if hit.best is None else f", best {hit.best:g} s"
        notes = "".join(f" ({note.partition(':')[0]})" for note in hit.notes)
        sure = "" if hit.confidence is None else f"{100 * hit.confidence:.0f} %"
        score = f"{hit.score:.4f}"
        told.append((str(hit.rank), score, sure, hit.clip, hit.path + span + best + notes))
    shown = _shown(told)
    widths = [max(len(row[place]) for row in shown) for place in range(5)]
    return "\n".join(
        f"{row[0]:>{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  "
        f"{row[3]:<{widths[3]}}  {row[4]}"
        for row in shown
    )
