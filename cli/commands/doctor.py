"""``c4c doctor``: what is installed, what is missing, how to get it."""

from __future__ import annotations

import click

from c4c.cli.options import GroupedCommand, option


@click.command(cls=GroupedCommand, epilog="c4c doctor --json")
@option("Output", "--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(as_json: bool) -> None:
    """Say what is installed, which device runs, and what is missing and how to get it."""
    from c4c.cli.doctor import examine
    from c4c.core.terminal import tell

    checks = examine()
    if as_json:
        import json

        tell(json.dumps({check.name: check.found for check in checks}))
        return
    for check in checks:
        mark = "ok  " if check.found else ("no  " if check.needed else "-   ")
        tell(f"{mark}{check.name:<16}{check.found or check.remedy}")
    if any(check.needed and not check.found for check in checks):
        click.get_current_context().exit(2)
