"""``c4c train-e2e``: head and backbone together."""

from __future__ import annotations

from typing import Any

import click

from c4c.cli.commands.results import show_result
from c4c.cli.options import GroupedCommand, settings_options
from c4c.cli.presets import preset_option
from c4c.training.config import TrainE2EConfig


@click.command(
    cls=GroupedCommand,
    epilog="c4c train-e2e --dataset lsmdc --root data/lsmdc --head seqTransf --resume auto",
)
@settings_options(TrainE2EConfig)
@preset_option("train-e2e")
def command(**options: Any) -> None:
    """Train head and backbone together, from frames that are decoded once.

    The best checkpoint is also a backbone: c4c extract --pretrained RUN/best.
    """
    from c4c.training.e2e import train_e2e

    show_result(train_e2e(TrainE2EConfig(**options)))
