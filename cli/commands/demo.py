"""``c4c demo``: the whole street on synthetic videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from c4c.cli.demo import DemoConfig
from c4c.cli.options import PATH, GroupedCommand, option, settings_options


@click.command(cls=GroupedCommand, epilog="c4c demo --out c4c-demo --json figures.json")
@settings_options(DemoConfig)
@option("Output", "--json", "json_path", type=PATH, help="All figures.")
def command(json_path: Path | None, **options: Any) -> None:
    """Make videos, extract them, train four heads and the backbone, compare them all.

    Takes some minutes on two cores; run again, it goes on where it stopped.
    """
    from c4c.cli.demo import run_demo
    from c4c.core.files import write_json
    from c4c.core.progress import say
    from c4c.core.terminal import tell

    found = run_demo(DemoConfig(**options))
    tell(*found.table.split("\n"))
    if json_path:
        write_json(json_path, found.figures)
    say(f"report: {found.report}")
