"""``c4c serve``: a page and an HTTP API to search caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from c4c.core.errors import C4CError


@click.command()
@click.argument("caches", nargs=-1, metavar="[CACHE]...", type=click.Path(path_type=Path))
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Trained head. [mean pooling]")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address; beyond this machine it needs --token-file.")  # fmt: skip
@click.option("--port", default=8400, show_default=True, type=click.IntRange(0, 65535),
              help="Port to serve on; 0 takes a free one.")  # fmt: skip
@click.option("--name", "names", multiple=True,
              help="Host name by which other machines call; repeatable.")  # fmt: skip
@click.option("--token-file", type=click.Path(path_type=Path),
              help="File of the secret that requests must bring; made if missing.")  # fmt: skip
@click.option("--device", help="cpu, cuda, cuda:1. [a GPU when there is one]")
@click.option("--pretrained", help="Weights for the texts. [those of the cache]")
def command(**options: Any) -> None:
    """Serve a page and an HTTP API that find moments in each CACHE, until Ctrl-C."""
    try:
        from c4c.serve.run import ServeConfig, run_serve
    except ModuleNotFoundError as error:
        raise C4CError(f"c4c serve needs {error.name}; run: pip install 'c4c[serve]'") from None

    run_serve(ServeConfig(**options))
