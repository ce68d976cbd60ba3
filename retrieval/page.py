"""What every page shares: one self-contained HTML file, no outside assets, light and dark."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from c4c.core.terminal import visible

Pixels = npt.NDArray[np.uint8]

_STYLE = """
:root { --ink: #1d2433; --soft: #5d6678; --line: #dfe3ea; --back: #ffffff; --card: #f6f7fa;
  --one: #3b6fd4; --two: #e08a1e; --good: #1f8a5b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf1; --soft: #9aa4b8; --line: #333b4b;
  --back: #14181f; --card: #1c222c; --one: #7aa5ff; --two: #f0a94a; --good: #4cc38a; } }
body { margin: 0 auto; max-width: 76rem; padding: 2rem 1.2rem 4rem; background: var(--back);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { color: var(--soft); margin: .3rem 0 1rem; max-width: 46rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .4rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
td small { color: var(--soft); }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; } svg .soft { fill: var(--soft); }
.query { background: var(--card); border-radius: .6rem; padding: .9rem 1rem; margin: .8rem 0; }
.query b { display: block; margin-bottom: .5rem; }
.hit { display: flex; align-items: center; gap: .7rem; margin: .25rem 0; }
.hit span { width: 9.5rem; flex: none; font-size: .85rem; color: var(--soft); }
.hit a { color: var(--one); } .hit img { height: 46px; max-width: 100%; border-radius: 4px; }
.right span { color: var(--good); font-weight: 600; }
"""


def escape(text: str) -> str:
    """Foreign text in a page: shown, and neither markup nor a turn of the writing direction."""
    return html.escape(visible(text))


def file_url(path: str) -> str:
    """The address of a file, as browsers and editors take it."""
    return "file://" + quote(os.fsencode(os.path.abspath(path)))


def page(title: str, lead: str, parts: Sequence[str]) -> str:
    """A page.

    Args:
        title: its heading.
        lead: what it says, in a sentence or two.
        parts: HTML, already escaped.
    """
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><body>"
        f"<h1>{escape(title)}</h1><p>{escape(lead)}</p>{''.join(parts)}\n"
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text, the first one as the header; a cell's second line stands small below it."""
    head, *body = ([_lines(cell) for cell in row] for row in rows)
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return f"<div class=scroll><table>{''.join(lines)}</table></div>"


def _lines(cell: str) -> str:
    first, newline, below = cell.partition("\n")
    return f"{escape(first)}<br><small>{escape(below)}</small>" if newline else escape(first)


def items(lines: Sequence[str]) -> str:
    """Lines of text as a list; nothing when there are none."""
    if not lines:
        return ""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


@dataclass(frozen=True, slots=True)
class Bar:
    """A percentage and, where it is known, its interval."""

    name: str
    value: float
    span: tuple[float, float] | None = None


def bars(values: Sequence[Bar], chance: float | None, colour: str) -> str:
    """Horizontal bars of percentages as SVG: whiskers are intervals, a dashed line ``chance``."""
    longest = max(len(bar.name) for bar in values)
    width, left, step = 720, 24 + 7 * longest, 30
    scale = (width - left - 60) / 100
    height = step * len(values) + 8
    parts = []
    for place, bar in enumerate(values):
        y = 4 + place * step
        end = max(bar.value, bar.span[1] if bar.span else 0.0)
        parts.append(
            f"<text x={left - 10} y={y + 18} text-anchor=end>{escape(bar.name)}</text>"
            f"<rect x={left} y={y + 4} width={max(bar.value, 0.4) * scale:.1f} height={step - 10} "
            f"rx=3 style='fill:{colour}'/>"
            f"<text x={left + end * scale + 6:.1f} y={y + 18}>{bar.value:.1f}</text>"
        )
        if bar.span:
            low, high = (left + edge * scale for edge in bar.span)
            line = f"M{low:.1f} {y + 14}H{high:.1f}M{low:.1f} {y + 9}v10M{high:.1f} {y + 9}v10"
            parts.append(f"<path d='{line}' style='stroke:var(--ink);fill:none;stroke-width:1.5'/>")
    if chance is not None:
        x = left + chance * scale
        parts.append(
            f"<line x1={x} x2={x} y1=0 y2={height} stroke-dasharray='4 4' "
            "style='stroke:var(--soft)'/>"
        )
    body = "".join(parts)
    return f"<div class=scroll><svg viewBox='0 0 {width} {height}' width={width}>{body}</svg></div>"


def data_uri(frames: Pixels) -> str:
    """Frames side by side as a JPEG in the page."""
    return small_uri(np.concatenate(list(frames), axis=1))


def small_uri(picture: Pixels, side: int | None = None) -> str:
    """A picture, uint8 [H, W, 3], as a JPEG in the page, its longer side ``side`` at most."""
    from PIL import Image

    image, memory = Image.fromarray(picture), io.BytesIO()
    if side is not None:
        image.thumbnail((side, side))
    image.save(memory, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(memory.getvalue()).decode()
