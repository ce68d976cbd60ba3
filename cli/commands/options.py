"""What several commands share: the options of trainings, and ``i/n``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from c4c.core.limits import MOST_SEED
from c4c.heads import HEADS

SEED = click.IntRange(0, MOST_SEED)
COUNT = click.IntRange(0, 1 << 20)


class Slice(click.ParamType):  # type: ignore[type-arg]
    """``i/n``: part i of n of the work, counted from 0 (``c4c.core.config.check_part``)."""

    name = "i/n"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """Two numbers, or a usage error."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(value))
        if not found:
            self.fail(f"'{value}' is not of the form i/n, such as 0/8", param, ctx)
        return int(found[1]), int(found[2])


_SAMPLING = click.Choice(["uniform", "head", "tail"])
_ORDER = click.Choice(["ordinary", "reverse", "random"])
_OBJECTIVE = click.Choice(["contrastive", "mil-nce"])
_OPTIONS = [
    click.option("--head", required=True, help=f"{', '.join(HEADS)}."),
    click.option("--out", type=click.Path(path_type=Path), help="Run folder. [c4c-runs/…]"),
    click.option(
        "--train-split", default="train", show_default=True, help="Split that is trained on."
    ),
    click.option(
        "--eval-split",
        default="auto",
        help="Split that chooses the best epoch, or none. [val, where no clip is trained on]",
    ),
    click.option("--batch", default=128, show_default=True, help="Pairs in a batch."),
    click.option("--accumulate", default=1, show_default=True, help="Batches averaged in a step."),
    click.option("--micro-batch", default=0, help="Pairs held in memory at once; same gradients."),
    click.option("--weight-decay", default=0.2, show_default=True, help="AdamW's weight decay."),
    click.option("--warmup", default=0.1, show_default=True, help="Share of the steps."),
    click.option("--clip-norm", default=1.0, show_default=True, help="Largest gradient norm."),
    click.option("--seed", default=0, show_default=True, help="Seed of everything random."),
    click.option("--max-frames", default=12, show_default=True, help="Frames a clip."),
    click.option(
        "--sampling",
        type=_SAMPLING,
        default="uniform",
        show_default=True,
        help="Which frames when there are more.",
    ),
    click.option("--order", type=_ORDER, default="ordinary", help="Frame order in training."),
    click.option("--eval-order", type=_ORDER, default="ordinary", help="In evaluation."),
    click.option("--layers", default=4, show_default=True, help="Transformer layers of the head."),
    click.option(
        "--recipe",
        type=click.Choice(["c4c", "authors"]),
        default="c4c",
        show_default=True,
        help="Numerics of the steps; authors: as in their code.",
    ),
    click.option(
        "--objective",
        type=_OBJECTIVE,
        default="contrastive",
        show_default=True,
        help="mil-nce is for post-pretraining on narrated video.",
    ),
    click.option("--pairs", default=1, help="mil-nce: stretches of a video that belong together."),
    click.option(
        "--clip-captions",
        type=click.Choice(["all", "one"]),
        default="all",
        help="Captions of a clip an epoch; one is drawn anew each time. [all]",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Of the steps; bfloat16 is by autocast.",
    ),
    click.option("--init-head", type=click.Path(path_type=Path), help="Checkpoint to start from."),
    click.option("--resume", help="auto, or a checkpoint folder of the same run."),
    click.option("--overwrite", is_flag=True, help="Begin anew in a folder that holds a run."),
    click.option("--checkpoint-minutes", default=10.0, help="Save at least so often."),
    click.option("--tensorboard", is_flag=True, help="Write event files too."),
    click.option("--device", help="cpu, cuda, cuda:1. [a GPU when there is one]"),
]


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the shared options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def show_result(result: Any) -> None:
    """Figures of the best checkpoint as one JSON line on stdout, its place on stderr."""
    import json
    import os

    from c4c.core.progress import say
    from c4c.core.terminal import tell

    if os.environ.get("RANK", "0") != "0":  # under torchrun one process speaks
        return
    line = {"checkpoint": str(result.checkpoint), "steps": result.steps, **result.metrics}
    if result.notes:
        line["notes"] = result.notes
    tell(json.dumps(line))
    for note in result.notes:
        say(f"note: {note}")
    say(f"best checkpoint: {result.checkpoint}")
