"""``c4c mcp``: search as tools of an assistant."""

from __future__ import annotations

from pathlib import Path

import click

from c4c.core.errors import C4CError


@click.command()
@click.argument("caches", nargs=-1, metavar="[CACHE]...", type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Trained head. [mean pooling]")
@click.option("--cuts", type=click.Path(path_type=Path),
              help="Folder in which the assistant may write cuts. [it writes nothing]")  # fmt: skip
@click.option("--device", help="cpu, cuda, cuda:1. [a GPU when there is one]")
@click.option("--pretrained", help="Weights for the texts. [those of the cache]")
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
