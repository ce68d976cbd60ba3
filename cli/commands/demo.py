"""``c4c demo``: the whole street on synthetic videos."""

from __future__ import annotations

from pathlib import Path

import click

from c4c.cli.commands.options import SEED


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("c4c-demo"),
              show_default=True, help="Folder for everything it makes.")  # fmt: skip
@click.option("--seed", type=SEED, default=0, show_default=True,
              help="Of the videos and of every training.")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="All figures.")
def command(out: Path, seed: int, json_path: Path | None) -> None:
    """Make videos, extract them, train four heads and the backbone, compare them all.

    Takes some minutes on two cores; run again, it goes on where it stopped.
    """
    from c4c.cli.demo import DemoConfig, run_demo
    from c4c.core.files import write_json
    from c4c.core.progress import say
    from c4c.core.terminal import tell

    found = run_demo(DemoConfig(out=out, seed=seed))
    tell(*found.table.split("\n"))
    if json_path:
        write_json(json_path, found.figures)
    say(f"report: {found.report}")
