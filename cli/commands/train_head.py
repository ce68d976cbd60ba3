"""``c4c train-head``: a temporal head on cached features."""

from __future__ import annotations

from typing import Any

import click

from c4c.cli.commands.results import show_result
from c4c.cli.options import GroupedCommand, settings_options
from c4c.cli.presets import preset_option
from c4c.training.config import TrainHeadConfig


@click.command(
    cls=GroupedCommand,
    epilog="c4c train-head --head seqTransf --cache c4c-cache/msrvtt --max-frames 12",
)
@settings_options(TrainHeadConfig)
@preset_option("train-head")
def command(**options: Any) -> None:
    """Train a temporal head on cached features; no frame is decoded.

    Best and last checkpoint and log.jsonl stand in the run folder. Ctrl-C saves; --resume auto
    goes on.
    """
    from c4c.face.learning import train_head

    show_result(train_head(**options))
