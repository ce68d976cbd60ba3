"""What every benchmark does with its figures: print them, and keep them with ``--json FILE``."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

_rows: list[dict[str, Any]] = []


def keep(row: dict[str, Any]) -> None:
    """Keep figures that are printed in another form."""
    _rows.append(row)


def show(row: dict[str, Any]) -> None:
    """Print a line of JSON, and keep it."""
    print(json.dumps(row), flush=True)
    keep(row)


def anonymous(process: int | str = "self") -> float:
    """Memory of a process that is not pages of files, in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def json_option(main: Callable[..., None]) -> Callable[..., None]:
    """Give a benchmark ``--json FILE``: a list of everything that it showed or kept."""

    @wraps(main)
    def kept(json_path: Path | None, **options: Any) -> None:
        try:
            main(**options)
        finally:
            if json_path:
                json_path.write_text(json.dumps(_rows, indent=1) + "\n")

    path = click.Path(path_type=Path)
    return click.option("--json", "json_path", type=path, help="File for all figures.")(kept)
