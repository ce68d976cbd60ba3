"""The page of an evaluation, and of a comparison: tables, bars, film strips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from c4c.retrieval.metrics import Metrics
from c4c.retrieval.page import Bar, Pixels, bars, data_uri, escape, page, table

_HEAD = ("", "R@1", "R@5", "R@10", "median", "mean", "v2t R@1", "v2t R@5", "v2t R@10", "twins")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a name, both directions, and twin accuracy when there is one."""

    name: str
    metrics: dict[str, Metrics]
    twins: float | None


@dataclass(frozen=True, slots=True)
class Strip:
    """An answer to show: a label, whether it is the right one, and some frames of it."""

    label: str
    right: bool
    frames: Pixels


@dataclass(frozen=True, slots=True)
class Example:
    """A query, the answers that heads gave, and what became of it in a few words."""

    query: str
    strips: tuple[Strip, ...]
    outcome: str = ""


def render_report(
    title: str,
    lead: str,
    rows: Sequence[Row],
    examples: Sequence[Example],
    foot: str,
    more: Sequence[str] = (),
) -> str:
    """The page.

    Args:
        title: its heading.
        lead: what the figures say, in a sentence or two.
        rows: one a head.
        examples: queries with their first clips.
        foot: how the figures were made.
        more: HTML that stands before it, already escaped.
    """
    parts = [table([_HEAD, *map(_cells, rows)])]
    twins = [Bar(row.name, row.twins) for row in rows if row.twins is not None]
    if twins:
        parts.append(
            "<h2>Twin accuracy</h2><p>How often a caption's own clip outranks the clip "
            "with the same frames in another order. A bag of frames is at 50 %.</p>"
        )
        parts.append(bars(twins, chance=50.0, colour="var(--one)"))
    recalls = [Bar(row.name, row.metrics["t2v"].r1) for row in rows]
    parts.append("<h2>Text to video, R@1</h2>" + bars(recalls, None, "var(--two)"))
    parts += [film("What was found", examples), *more]
    parts.append(f"<h2>How this was made</h2><p>{escape(foot)}</p>")
    return page(title, lead, parts)


def _cells(row: Row) -> list[str]:
    there, back = row.metrics["t2v"], row.metrics["v2t"]
    figures = [there.r1, there.r5, there.r10, there.median_rank, there.mean_rank]
    figures += [back.r1, back.r5, back.r10]
    twins = "–" if row.twins is None else f"{row.twins:.1f}"
    return [row.name, *(f"{value:.1f}" for value in figures), twins]


def film(heading: str, examples: Sequence[Example]) -> str:
    """Queries with film strips of their answers; nothing when there are none."""
    if not examples:
        return ""
    return f"<h2>{escape(heading)}</h2>" + "".join(map(_example, examples))


def _example(example: Example) -> str:
    strips = "".join(
        f"<div class='hit{' right' if strip.right else ''}'><span>{escape(strip.label)}</span>"
        f"{_image(strip.frames)}</div>"
        for strip in example.strips
    )
    outcome = f": {escape(example.outcome)}" if example.outcome else ""
    return f"<div class=query><b>“{escape(example.query)}”{outcome}</b>{strips}</div>"


def _image(frames: Pixels) -> str:
    return f"<img alt='' src='{data_uri(frames)}'>" if len(frames) else "<i>no video</i>"
