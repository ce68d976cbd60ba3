"""``c4c train-head``: a temporal head on cached features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from c4c.cli.commands.options import show_result, training_options
from c4c.cli.presets import preset_option


@click.command()
@preset_option("train-head")
@training_options
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Feature cache. [the one below c4c-cache/]"
)
@click.option("--epochs", default=30, show_default=True, help="Passes over the captions.")
@click.option("--lr", default=1e-3, show_default=True, help="Peak learning rate.")
@click.option("--tune", type=click.Choice(["head", "projections"]), default="head",
              show_default=True, help="projections: both CLIP's too.")  # fmt: skip
@click.option("--coef-lr", default=0.1, show_default=True,
              help="The projections' learning rate as a multiple of --lr.")  # fmt: skip
def command(**options: Any) -> None:
    """Train a temporal head on cached features; no frame is decoded.

    Best and last checkpoint and log.jsonl stand in the run folder. Ctrl-C saves; --resume auto
    goes on.
    """
    from c4c.face.learning import train_head

    show_result(train_head(**options))
