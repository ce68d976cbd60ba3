"""``c4c train-e2e``: head and backbone together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from c4c.cli.commands.options import show_result, training_options
from c4c.cli.presets import preset_option


@click.command()
@preset_option("train-e2e")
@training_options
@click.option("--dataset", required=True, help="Its name.")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the dataset.")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of its videos.")
@click.option(
    "--captions", type=click.Path(path_type=Path), help="Captions file (folder, manifest)."
)
@click.option("--backbone", default="ViT-B-32", show_default=True,
              help="open_clip name, tiny, or auto (read off the weights).")  # fmt: skip
@click.option("--pretrained", help="Tag, file of weights, or none. [openai, or the first]")
@click.option("--preprocess", metavar="TAG",
              help="Frames as for this tag's weights. [as the weights say]")  # fmt: skip
@click.option("--tokenizer", type=click.Path(path_type=Path),
              help="Folder or file, for backbones without CLIP's own. [the hub's]")  # fmt: skip
@click.option("--epochs", default=5, show_default=True, help="Passes over the captions.")
@click.option("--lr", default=1e-4, show_default=True, help="Peak learning rate of the head.")
@click.option("--coef-lr", default=1e-3, show_default=True,
              help="The backbone's learning rate as a multiple of --lr.")  # fmt: skip
@click.option("--linear-patch", type=click.Choice(["2d", "3d"]), default="2d",
              show_default=True, help="3d: patches over three frames.")  # fmt: skip
@click.option("--freeze-layers", default=0, show_default=True,
              help="Lowest layers of each tower left as they are.")  # fmt: skip
@click.option("--grad-checkpointing", is_flag=True,
              help="Keep less of a layer, compute it again: less memory, more time.")  # fmt: skip
@click.option("--max-words", type=int, help="Tokens of a caption at most.")
@click.option("--fps", default=1.0, show_default=True, help="Frames a second.")
@click.option("--frames", type=click.Choice(["cache", "decode"]), default="cache",
              show_default=True, help="decode: anew each time, for small disks.")  # fmt: skip
@click.option("--frame-cache", type=click.Path(path_type=Path),
              help="Decoded frames. [c4c-cache/DATASET-frames]")  # fmt: skip
@click.option("--decoder", type=click.Choice(["pyav", "decord"]), default="pyav",
              show_default=True, help="What decodes the videos.")  # fmt: skip
@click.option("--workers", type=int, help="Decoder processes. [cores]")
def command(**options: Any) -> None:
    """Train head and backbone together, from frames that are decoded once.

    The best checkpoint is also a backbone: c4c extract --pretrained RUN/best.
    """
    from c4c.training.config import TrainE2EConfig
    from c4c.training.e2e import train_e2e

    show_result(train_e2e(TrainE2EConfig(**options)))
