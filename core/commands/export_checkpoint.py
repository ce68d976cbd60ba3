"""``c4c export-checkpoint``: a checkpoint folder under the authors' names."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace a file that stands there.")
def command(folder: Path, out: Path, overwrite: bool) -> None:
    """Write FOLDER (a checkpoint with a backbone) as CLIP4Clip's own code reads it."""
    from c4c.progress import say
    from c4c.terminal import tell
    from c4c.training.convert import export_checkpoint

    count = export_checkpoint(folder, out, overwrite=overwrite)
    say(f"{count} tensors under the authors' names")
    tell(str(out))
