"""``c4c study``: a grid of trainings, resumed, with a table and a report."""

from __future__ import annotations

from typing import Any

import click

from c4c.cli.options import GroupedCommand, option, settings_options
from c4c.core.errors import C4CError
from c4c.core.toml import parse_toml
from c4c.study.config import StudyConfig


@click.command(
    cls=GroupedCommand, epilog="c4c study heads --dataset shapes --backbone tiny --seeds 3"
)
@click.argument("name")
@settings_options(StudyConfig)
@option("Training", "--set", "changes", multiple=True, metavar="KEY=VALUE",
        help="A setting of every run, such as epochs=2; repeatable.")  # fmt: skip
@option("Machine", "--dry-run", is_flag=True,
        help="Say what would run and what it would take; do nothing.")  # fmt: skip
def command(changes: tuple[str, ...], dry_run: bool, **options: Any) -> None:
    """Run study NAME: built in, or a TOML file with a question, [settings] and a [grid].

    Built in: zero-shot, post-pretrain, heads, patch, batch-size, learning-rate, frames, freeze,
    sampling. Run it again to go on where it stopped; finished runs are kept.
    """
    from c4c.core.terminal import tell
    from c4c.study.run import run_study

    settings = dict(setting(text) for text in changes)
    config = StudyConfig(settings=settings, **options)
    if dry_run:
        from c4c.study.forecast import forecast_study

        tell(*forecast_study(config).lines())
        return
    found = run_study(config)
    tell(*found.table.split("\n"))


def setting(text: str) -> tuple[str, Any]:
    """``key=value``, the value as TOML has it, or as plain text.

    Raises:
        C4CError: there is no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise C4CError(f"--set {text}: expected KEY=VALUE, such as --set epochs=2.")
    name = key.strip().replace("-", "_")
    try:
        return name, parse_toml(f"value = {value}", text)["value"]
    except C4CError:
        return name, value
