"""``c4c study``: a grid of trainings, resumed, with a table and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from c4c.cli.commands.options import Slice
from c4c.core.errors import C4CError
from c4c.core.files import parse_toml


@click.command()
@click.argument("name")
@click.option("--dataset", "datasets", multiple=True, required=True, help="Its name; repeatable.")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the dataset.")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of its videos.")
@click.option(
    "--captions", type=click.Path(path_type=Path), help="Captions file (folder, manifest)."
)
@click.option("--cache", type=click.Path(path_type=Path), help="Cache. [c4c-cache/DATASET]")
@click.option("--backbone", "backbones", multiple=True,
              help="Name, tiny or auto; zero-shot: repeatable, NAME:TAG. [ViT-B-32]")  # fmt: skip
@click.option("--pretrained", help="Tag, file of weights, or none. [openai, or the first]")
@click.option("--mode", type=click.Choice(["cached", "e2e"]),
              help="e2e trains the backbone too. [the study's own]")  # fmt: skip
@click.option("--preset", help="Settings to start from. [the one for the dataset]")
@click.option("--seeds", default=1, show_default=True,
              help="Trainings of each variant.")  # fmt: skip
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="A setting of every run, such as epochs=2; repeatable.")  # fmt: skip
@click.option("--select-on", default="auto", help="Split that chooses the best epoch. [val]")
@click.option("--out", type=click.Path(path_type=Path), help="Its folder. [c4c-studies/NAME]")
@click.option("--device", "devices", multiple=True,
              help="One training at a time on each; repeatable.")  # fmt: skip
@click.option("--slice", "part", type=Slice(), default="0/1", show_default=True,
              help="i/n: part i of n, counted from 0 (job arrays).")  # fmt: skip
@click.option("--workers", default=0, help="Decoder processes. [cores]")
def command(changes: tuple[str, ...], **options: Any) -> None:
    """Run study NAME: built in, or a TOML file with a question, [settings] and a [grid].

    Built in: zero-shot, post-pretrain, heads, patch, batch-size, learning-rate, frames, freeze,
    sampling. Run it again to go on where it stopped; finished runs are kept.
    """
    from c4c.core.terminal import tell
    from c4c.study.config import StudyConfig
    from c4c.study.run import run_study

    settings = dict(setting(text) for text in changes)
    found = run_study(StudyConfig(settings=settings, **options))
    tell(*found.table.split("\n"))


def setting(text: str) -> tuple[str, Any]:
    """``key=value``, the value as TOML has it, or as plain text.

    Raises:
        C4CError: there is no key.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise C4CError(f"--set {text}: expected KEY=VALUE, such as --set epochs=2.")
    name = key.strip().replace("-", "_")
    try:
        return name, parse_toml(f"value = {value}", text)["value"]
    except C4CError:
        return name, value
