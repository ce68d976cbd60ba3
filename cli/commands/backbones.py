"""``c4c backbones``: what open_clip's models are, what they take, and how fast they are here."""

from __future__ import annotations

import click

from c4c.cli.options import GroupedCommand, option


@click.command(cls=GroupedCommand, epilog="c4c backbones 'ViT-B-*' --measure")
@click.argument("pattern", default="*")
@option("Machine", "--measure", is_flag=True,
        help="Build each with random weights: speed and agreement of each backend "
             "here.")  # fmt: skip
@option("Machine", "--device", help="Where torch is measured. [a GPU when there is one]")
def command(pattern: str, measure: bool, device: str | None) -> None:
    """List backbones whose name has PATTERN in it (or matches it: 'ViT-B-*').

    Tags name weights for --pretrained; those with a * were downloaded already. With --measure a
    line a backend: frames a second, and cosines to float32 by torch, their mean and least. PATTERN
    tiny adds what a search finds of its videos: how much of the first ten is the same, R@1, and
    what it gains or loses.
    """
    from c4c.core.terminal import tell
    from c4c.extract.backbone.listing import HEADER, listed
    from c4c.retrieval.table import render

    if measure:
        tell(*render(_measured(pattern, device)).split("\n"))
    else:
        tell(*render([HEADER, *listed(pattern)]).split("\n"))


def _measured(pattern: str, device: str | None) -> list[list[str]]:
    from c4c.core.device import pick_device
    from c4c.core.errors import C4CError
    from c4c.core.progress import say
    from c4c.extract.backbone.listing import listed
    from c4c.extract.measure import HEADER, measured

    pick_device(device)  # refused once, not for each
    rows = [HEADER]
    for name in ["tiny"] if pattern == "tiny" else [row[0] for row in listed(pattern)]:
        try:
            rows += measured(name, device)
        except C4CError as error:
            say(f"{name}: {error}")
    return rows
