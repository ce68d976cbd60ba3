"""``c4c serve``: a page and an HTTP API to search caches."""

from __future__ import annotations

from typing import Any

import click

from c4c.cli.options import PATH, GroupedCommand, settings_options
from c4c.core.errors import C4CError
from c4c.serve.config import ServeConfig


@click.command(cls=GroupedCommand, epilog="c4c serve c4c-cache/videos --port 8400")
@click.argument("caches", nargs=-1, metavar="[CACHE]...", type=PATH)
@settings_options(ServeConfig)
def command(**options: Any) -> None:
    """Serve a page and an HTTP API that find moments in each CACHE, until Ctrl-C."""
    try:
        from c4c.serve.run import run_serve
    except ModuleNotFoundError as error:
        raise C4CError(f"c4c serve needs {error.name}; run: pip install 'c4c[serve]'") from None

    run_serve(ServeConfig(**options))
