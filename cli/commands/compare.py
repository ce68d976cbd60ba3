"""``c4c compare``: two evaluations query by query."""

from __future__ import annotations

from pathlib import Path

import click

from c4c.cli.options import PATH, GroupedCommand, option
from c4c.core.limits import MOST_SEED
from c4c.retrieval.choices import DIRECTIONS


@click.command(cls=GroupedCommand, epilog="c4c compare before.json after.json --html changes.html")
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@option("Evaluation", "--direction", type=click.Choice(DIRECTIONS), default=DIRECTIONS[0],
        show_default=True, help="Text to video, or video to text.")  # fmt: skip
@option("Evaluation", "--seed", type=click.IntRange(0, MOST_SEED), default=0, show_default=True,
        help="Of the bootstrap.")  # fmt: skip
@option("Output", "--show", type=click.IntRange(0, 1 << 20), default=5, show_default=True,
        help="Queries won and lost to show.")  # fmt: skip
@option("Output", "--json", "json_path", type=PATH, help="All of it to a file.")
@option("Output", "--html", "html_path", type=PATH, help="Page with thumbnails.")
def command(
    a: Path,
    b: Path,
    direction: str,
    show: int,
    seed: int,
    json_path: Path | None,
    html_path: Path | None,
) -> None:
    """Say what changed from A to B, two files of c4c retrieve --evaluate --json."""
    from c4c.core.files import write_atomic, write_json
    from c4c.core.terminal import tell
    from c4c.retrieval.compare import as_dict, compare, read_results
    from c4c.retrieval.compare_page import compare_page, difference_rows
    from c4c.retrieval.table import render

    first, second = read_results(a, direction), read_results(b, direction)
    found = compare(first, second, seed)
    tell(f"{found.queries} queries, from {first.head} ({a}) to {second.head} ({b})")
    if found.only_a or found.only_b:
        tell(f"note: not compared: {found.only_a} only in A, {found.only_b} only in B")
    for note in found.notes:
        tell(f"note: {note}")
    tell(*render(difference_rows(found)).split("\n"))
    for label, rows in (("won", found.won), ("lost", found.lost)):
        tell(f"{label}: {len(rows)}")
        for row in rows[:show]:
            tell(f"  {row.before.rank:g} -> {row.after.rank:g}  {row.before.text}")
    if json_path:
        write_json(json_path, as_dict(found))
    if html_path:
        write_atomic(html_path, compare_page(first, second, found, show).encode())
