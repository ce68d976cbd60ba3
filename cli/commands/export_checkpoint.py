"""``c4c export-checkpoint``: a checkpoint folder under the authors' names."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File. [FOLDER.bin]")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@click.option(
    "--exact-gelu", is_flag=True, help="Write weights trained with GELU, not CLIP's quick one."
)
def command(folder: Path, out: Path | None, overwrite: bool, exact_gelu: bool) -> None:
    """Write FOLDER (a checkpoint with a backbone) as CLIP4Clip's own code reads it."""
    from c4c.core.progress import say
    from c4c.core.terminal import tell
    from c4c.interop.convert import export_checkpoint

    whole = folder.resolve()  # also of "." the name
    out = out or whole.with_name(f"{whole.name}.bin")
    count = export_checkpoint(folder, out, overwrite=overwrite, exact_gelu=exact_gelu)
    say(f"{count} tensors under the authors' names")
    if exact_gelu:
        say(
            "exact GELU, which the file cannot say: the authors' code would compute QuickGELU; "
            "c4c import-checkpoint needs --exact-gelu too"
        )
    tell(str(out))
