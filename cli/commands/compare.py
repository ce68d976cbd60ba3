"""``c4c compare``: two evaluations query by query."""

from __future__ import annotations

from pathlib import Path

import click

from c4c.cli.commands.options import COUNT, SEED


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--direction", type=click.Choice(["t2v", "v2t"]), default="t2v", show_default=True,
              help="Text to video, or video to text.")  # fmt: skip
@click.option("--show", type=COUNT, default=5, show_default=True,
              help="Queries won and lost to show.")  # fmt: skip
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="All of it to a file.")
@click.option("--html", "html_path", type=click.Path(path_type=Path), help="Page with thumbnails.")
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
