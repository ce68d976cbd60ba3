"""``c4c mcp``: search as tools of an assistant."""

from __future__ import annotations

from pathlib import Path

import click

from c4c.cli.options import PATH, GroupedCommand, option, settings_options
from c4c.core.errors import C4CError
from c4c.retrieval.opening import SearchConfig


@click.command(cls=GroupedCommand, epilog="c4c mcp c4c-cache/videos --cuts cuts")
@click.argument("caches", nargs=-1, metavar="[CACHE]...", type=PATH)
@settings_options(SearchConfig, only=("checkpoint", "pretrained", "device"))
@option("Output", "--cuts", type=PATH,
        help="Folder in which the assistant may write cuts. [it writes nothing]")  # fmt: skip
def command(
    caches: tuple[Path, ...],
    checkpoint: Path | None,
    cuts: Path | None,
    device: str | None,
    pretrained: str | None,
) -> None:
    """Give an assistant tools that search each CACHE, by MCP on standard input and output."""
    try:
        from c4c.serve.assistant import run_mcp
    except ModuleNotFoundError as error:
        raise C4CError(f"c4c mcp needs {error.name}; run: pip install 'c4c[mcp]'") from None
    from c4c.serve.library import Library

    run_mcp(Library.open(caches, checkpoint, device, pretrained), cuts)
