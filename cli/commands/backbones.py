"""``c4c backbones``: what open_clip's models are, what they take, and how fast they are here."""

from __future__ import annotations

import click


@click.command()
@click.argument("pattern", default="*")
@click.option("--measure", is_flag=True,
              help="Build each with random weights, and add frames a second here.")  # fmt: skip
@click.option("--device", help="Where it is measured. [a GPU when there is one]")
def command(pattern: str, measure: bool, device: str | None) -> None:
    """List backbones whose name has PATTERN in it (or matches it: 'ViT-B-*').

    Tags name weights for --pretrained; those with a * were downloaded already.
    """
    from c4c.core.terminal import tell
    from c4c.extract.backbone.listing import HEADER, listed
    from c4c.retrieval.table import render

    rows = listed(pattern, device, measure)
    tell(*render([HEADER if measure else HEADER[:-1], *rows]).split("\n"))
