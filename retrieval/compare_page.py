"""``c4c compare``: two results files side by side, as a table or as a page with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from c4c.core.records import Clip, Frames
    from c4c.retrieval.compare import Change, Comparison, Results
    from c4c.retrieval.report import Example

# Frames of a strip, and their short side in pixels.
_FRAMES, _SIZE = 6, 96


def difference_rows(found: Comparison) -> list[list[str]]:
    """Each figure: B less A, its 95 % interval, the p-value."""
    rows = [["", "B less A", "95 % interval", "p"]]
    for name, one in found.differences.items():
        span = f"[{one.low:+.2f}, {one.high:+.2f}]"
        rows.append([name, f"{one.value:+.2f}", span, f"{one.p:.4f}"])
    return rows


def compare_page(a: Results, b: Results, found: Comparison, show: int) -> str:
    """A page: the differences, and the largest wins and losses with their film strips.

    Args:
        a: the first results.
        b: the second ones.
        found: their comparison.
        show: queries of each kind.
    """
    from c4c.retrieval.page import items, page, table
    from c4c.retrieval.report import film

    won, lost = found.won[:show], found.lost[:show]
    frames = _thumbnails([*won, *lost], {**a.videos, **b.videos})
    lead = (
        f"{found.queries} queries; from {a.head} ({a.path}) to {b.head} ({b.path}): "
        f"{len(found.won)} won, {len(found.lost)} lost."
    )
    parts = [
        items([f"note: {note}" for note in found.notes]),
        table(difference_rows(found)),
        film("Won", [_example(row, frames) for row in won]),
        film("Lost", [_example(row, frames) for row in lost]),
    ]
    return page("Two evaluations, query by query", lead, parts)


def _example(row: Change, frames: dict[str, Frames]) -> Example:
    from c4c.retrieval.report import Example, Strip

    answers = {"right clip": row.before.clip, "first in A": row.before.first}
    answers["first in B"] = row.after.first
    strips = tuple(
        Strip(label, name == row.before.clip, frames[name].pixels)
        for label, name in answers.items()
        if name in frames
    )
    return Example(row.before.text, strips, f"rank {row.before.rank:g} to {row.after.rank:g}")


def _thumbnails(rows: Sequence[Change], videos: dict[str, Clip]) -> dict[str, Frames]:
    """Some frames of each clip that is to be seen; none where the video is gone."""
    from c4c.extract.video.pool import decode_many
    from c4c.extract.video.request import Request

    names = {name for row in rows for name in (row.before.clip, row.before.first, row.after.first)}
    clips = [videos[name] for name in sorted(names) if name in videos]
    request = Request(max_frames=_FRAMES, size=_SIZE)
    return {clips[place].id: done.frames for place, done in decode_many(clips, request)}
