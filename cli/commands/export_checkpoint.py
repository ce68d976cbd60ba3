"""``c4c export-checkpoint``: a checkpoint folder under the authors' names."""

from __future__ import annotations

from pathlib import Path

import click

from c4c.cli.options import PATH, GroupedCommand, option


@click.command(cls=GroupedCommand, epilog="c4c export-checkpoint c4c-runs/seqTransf-msrvtt/best")
@click.argument("folder", type=PATH)
@option("Output", "--out", type=PATH, help="File. [FOLDER.bin]")
@option("Output", "--overwrite", is_flag=True, help="Replace an existing file.")
@option("Model", "--exact-gelu", is_flag=True,
        help="Write weights trained with GELU, not CLIP's quick one.")  # fmt: skip
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
