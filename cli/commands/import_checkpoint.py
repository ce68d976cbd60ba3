"""``c4c import-checkpoint``: the authors' and OpenAI's files to a checkpoint folder."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from c4c.cli.options import PATH, GroupedCommand, option


@click.command(cls=GroupedCommand, epilog="c4c import-checkpoint pytorch_model.bin.4")
@click.argument("file", type=PATH)
@option("Output", "--out", type=PATH, help="Folder. [c4c-runs/imported-FILE]")
@option("Output", "--overwrite", is_flag=True, help="Replace an existing checkpoint.")
@option("Model", "--exact-gelu", is_flag=True,
        help="Weights trained with GELU, not CLIP's quick one.")  # fmt: skip
@option("Output", "--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(file: Path, out: Path | None, overwrite: bool, exact_gelu: bool, as_json: bool) -> None:
    """Read FILE (CLIP4Clip's pytorch_model.bin.N, OpenAI's CLIP, safetensors).

    Only tensors are read: a file that would run code is refused. The folder is a checkpoint
    for retrieve and train-head, and weights for extract (--pretrained FOLDER).
    """
    from c4c.core.progress import say
    from c4c.core.terminal import tell
    from c4c.interop.convert import import_checkpoint

    out = out or Path("c4c-runs", f"imported-{file.name}")
    found = import_checkpoint(file, out, overwrite=overwrite, exact_gelu=exact_gelu)
    say(
        f"{found['head']}, {found['patch']} patch, {found['gelu']} GELU, "
        f"{found['parameters'] / 1e6:.1f} million numbers. To extract with it: "
        "c4c extract --dataset NAME "
        f"--backbone {found['backbone']} --pretrained {shlex.quote(found['folder'])}"
    )
    tell(json.dumps(found) if as_json else found["folder"])
