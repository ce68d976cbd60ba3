"""A study told: verdicts in sentences, a table with intervals, published figures, plots."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from c4c.core.terminal import visible
from c4c.retrieval.page import Bar, bars, escape, items, page, table
from c4c.study.details import CURVES, curve_rows, curves, drawing, settings_rows
from c4c.study.paper import paper_lines, rows, short_rows
from c4c.study.spec import Study
from c4c.study.summary import ALPHA, CHANCE, Figure, Variant

_NAMES = {
    "t2v_r1": "R@1",
    "t2v_r5": "R@5",
    "t2v_r10": "R@10",
    "t2v_mean_rank": "mean rank",
    "v2t_r1": "v2t R@1",
    "twins": "twins",
}
_BOTH = (
    "As papers print it: mean ± standard deviation over seeds; MdR and MnR are the median and the "
    "mean rank. Published figures, with their source, were not measured here."
)
_TWINS = (
    "Twins are clips with the same frames in another order: twin accuracy is how often a "
    "caption's own clip outranks its twin. A head that does not see order is at 50 %."
)


def verdicts(study: Study, variants: Sequence[Variant]) -> list[str]:
    """What the figures say, a sentence each, never more than the intervals allow."""
    return [
        line
        for one in variants
        for line in (_order_verdict(one), _change_verdict(study, one))
        if line
    ]


def _order_verdict(one: Variant) -> str:
    if one.order is None:
        return ""
    low, high = one.order.low + CHANCE, one.order.high + CHANCE
    figure = f"twin accuracy {one.order.value + CHANCE:.1f} % [{low:.1f}, {high:.1f}]"
    words = "sees order" if one.sees_order else "is not shown to see order"
    return f"{one.label} {words}: {figure}, p = {one.order.p:.4f} against {CHANCE:.0f}."


def _change_verdict(study: Study, one: Variant) -> str:
    change = one.figures["t2v_r1"].change
    if change is None:
        return ""
    from c4c.study.summary import label

    words = "does not differ clearly from"
    if change.p < ALPHA:
        words = "is better than" if change.value > 0 else "is worse than"
    span = f"[{change.low:+.1f}, {change.high:+.1f}]"
    return (
        f"{one.dataset}: {one.label} {words} {label(study.baseline)} in R@1: "
        f"{change.value:+.1f} points {span}, p = {change.p:.4f}."
    )


def rows_of(variants: Sequence[Variant]) -> list[list[str]]:
    """The table: a row a variant, each figure with its interval and deviation over seeds."""
    shown = [name for name in _NAMES if any(name in one.figures for one in variants)]
    told = [["dataset", "variant", "seeds", *(_NAMES[name] for name in shown), "gallery"]]
    for one in variants:
        cells = [_cell(one.figures[name]) if name in one.figures else "–" for name in shown]
        there, whole = one.gallery
        gallery = f"{there}" if there == whole else f"{there} of {whole}"
        told.append([one.dataset, one.label, str(one.seeds), *cells, gallery])
    return told


def _cell(figure: Figure) -> str:
    own = figure.interval
    spread = "" if math.isnan(figure.deviation) else f" ± {figure.deviation:.1f}"
    return f"{own.value:.1f}{spread} [{own.low:.1f}, {own.high:.1f}]"


def paper_markdown(
    study: Study, variants: Sequence[Variant], results: Sequence[dict[str, Any]]
) -> str:
    """The table as papers print it, in Markdown."""
    return _markdown_table(rows(paper_lines(study, variants, results)))


def _curves(
    variants: Sequence[Variant], results: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, dict[str, dict[int, float]]]]:
    """What each chart shows, and its curves; none where no epoch was evaluated."""
    for dataset in dict.fromkeys(one.dataset for one in variants):
        for name, words in CURVES.items():
            if found := curves(dataset, name, variants, results):
                yield f"{dataset}, {words} after each epoch, on the split that chooses", found


def _notes(variants: Sequence[Variant]) -> list[str]:
    return list(
        dict.fromkeys(
            f"{one.dataset}, {one.label}: {note}" for one in variants for note in one.notes
        )
    )


def how_made(study: Study, results: Sequence[dict[str, Any]], wanted: int) -> str:
    """How the figures came about, in a sentence or two."""
    first = results[0]
    evaluation = first["evaluation"]["source"]
    seeds = sorted({one["seed"] for one in results})
    made = first["revision"] or first["version"]
    models = ", ".join(dict.fromkeys(one["evaluation"]["source"]["model"] for one in results))
    missing = (
        f" {wanted - len(results)} runs are still to be done." if wanted > len(results) else ""
    )
    return (
        f"c4c study {study.name}, mode {first['mode']}, c4c {made}, backbone "
        f"{models}, seeds {', '.join(map(str, seeds))}, split {evaluation['split']}, "
        f"best epoch chosen on {evaluation['chosen_on'] or 'nothing'}.{missing} "
        "Intervals are 95 % bootstrap intervals over queries (clips, or pairs of twins, drawn "
        "together) of the mean over seeds; ± is the standard deviation over seeds; p-values are "
        "from sign-flip tests, corrected for the number of variants (Holm)."
    )


def markdown(
    study: Study, variants: Sequence[Variant], results: Sequence[dict[str, Any]], wanted: int
) -> str:
    """The report as Markdown."""
    lines = verdicts(study, variants)
    parts = [f"# {plain(study.question)}", "\n".join(f"- {plain(line)}" for line in lines)]
    parts.append(_markdown_table(rows_of(variants)))
    parts += [f"## Both directions\n\n{_BOTH}", paper_markdown(study, variants, results)]
    parts += ["## Settings", _markdown_table(settings_rows(variants, results))]
    for words, found in _curves(variants, results):
        parts += [f"## {plain(words)}", _markdown_table(curve_rows(found))]
    if notes := _notes(variants):
        parts.append("\n".join(f"- note: {plain(note)}" for note in notes))
    if any(one.order for one in variants):
        parts.append(_TWINS)
    parts.append(plain(how_made(study, results, wanted)))
    return "\n\n".join(part for part in parts if part) + "\n"


# What Markdown may take for markup: a bracket only where it would make a link, an underscore only
# at the edge of a word.
_MARKUP = re.compile(r"[\\`*|~]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")


def plain(text: str) -> str:
    r"""Foreign text in a Markdown page, as it is and no markup.

    >>> print(plain("a|b <i>*c*</i> max_frames [x](http://y) [1.0, 2.0]"))
    a\|b &lt;i&gt;\*c\*&lt;/i&gt; max_frames [x\](http://y) [1.0, 2.0]
    """
    return html.escape(_MARKUP.sub(r"\\\g<0>", visible(text)), quote=False)


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = (" | ".join(map(plain, row)) for row in rows)
    line = " | ".join("---" for _ in rows[0])
    return "\n".join(f"| {text} |" for text in (head, line, *body))


def html_page(
    study: Study, variants: Sequence[Variant], results: Sequence[dict[str, Any]], wanted: int
) -> str:
    """The report as one self-contained page."""
    parts = [items(verdicts(study, variants)), table(_stacked(rows_of(variants)))]
    parts += [_plot(variants, "twins", _TWINS, CHANCE, "var(--one)")]
    parts += [_plot(variants, "t2v_r1", "Text to video.", None, "var(--two)")]
    both = table(short_rows(paper_lines(study, variants, results)))
    parts += [f"<h2>Both directions</h2><p>{_BOTH}</p>", both]
    for words, found in _curves(variants, results):
        parts += [f"<h2>{escape(words)}</h2>", drawing(found)]
    parts += ["<h2>Settings</h2>", table(settings_rows(variants, results))]
    if notes := _notes(variants):
        parts += ["<h2>Notes</h2>", items(notes)]
    return page(study.question, how_made(study, results, wanted), parts)


def _stacked(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The table with intervals below their figures, so that all columns fit on a screen."""
    return [[cell.replace(" [", "\n[") for cell in row] for row in rows]


def _plot(
    variants: Sequence[Variant], name: str, words: str, chance: float | None, colour: str
) -> str:
    several = len({one.dataset for one in variants}) > 1
    values = []
    for one in variants:
        if name in one.figures:
            own = one.figures[name].interval
            words_of = f"{one.dataset} {one.label}" if several else one.label
            values.append(Bar(words_of, own.value, (own.low, own.high)))
    if not values:
        return ""
    return f"<h2>{_NAMES[name]}</h2><p>{words}</p>{bars(values, chance, colour)}"
