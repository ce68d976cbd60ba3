"""``c4c dataset``: check a dataset's files, or make the synthetic one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from c4c.cli.commands.options import COUNT, SEED

if TYPE_CHECKING:
    from c4c.extract.datasets.shapes import Edition, Recipe


@click.group()
def command() -> None:
    """Check a dataset's files, or make the synthetic one."""


@command.command()
@click.argument("name")
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the dataset.")
@click.option("--videos", type=click.Path(path_type=Path), help="Folder of its videos.")
@click.option("--captions", type=click.Path(path_type=Path),
              help="Captions file (folder, manifest).")  # fmt: skip
@click.option("--split", "splits", multiple=True, help="Split to check; repeatable. [all]")
@click.option("--strict", is_flag=True, help="Exit 2 when anything is odd.")
@click.option("--missing-file", type=click.Path(path_type=Path), help="Write missing ids here.")
def check(
    name: str,
    root: Path | None,
    videos: Path | None,
    captions: Path | None,
    splits: tuple[str, ...],
    strict: bool,
    missing_file: Path | None,
) -> None:
    """Compare what is there with what dataset NAME should hold.

    Exit status: 0 the splits can be read; 2 one cannot, or --strict found anything missing,
    counted otherwise than published, noted, or in two splits at once.
    """
    from c4c.core.config import dataset_source
    from c4c.core.errors import C4CError
    from c4c.core.terminal import tell
    from c4c.extract.datasets.check import check_dataset, write_missing

    report = check_dataset(dataset_source(name, root, videos, captions), splits)
    tell(*report.table().split("\n"))
    if missing_file:
        write_missing(report, missing_file)
    problem = report.problem(strict)
    if problem:
        raise C4CError(problem)


@command.command()
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write.")
def unpack(tables: tuple[Path, ...], out: Path) -> None:
    """Write the videos that lie in parquet TABLES as bytes to files, for --videos."""
    from c4c.core.progress import say
    from c4c.extract.datasets.unpack import unpack as run

    say(f"{out}: {len(run(tables, out))} videos")


@command.group()
def make() -> None:
    """Make a synthetic dataset."""


def _recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of an edition of shapes."""
    for name, default in (("--test", 200), ("--val", 100), ("--train", 1800)):
        click.option(name, type=COUNT, default=default, show_default=True, help="Clips.")(command)
    click.option("--seed", type=SEED, default=0, show_default=True, help="Of the videos.")(command)
    root: dict[str, Any] = {
        "required": True,
        "type": click.Path(path_type=Path),
        "help": "Folder to write.",
    }
    return click.option("--root", **root)(command)


@make.command()
@_recipe
def shapes(root: Path, seed: int, train: int, val: int, test: int) -> None:
    """Coloured shapes that move and grow, in H.264; val and test are twins."""
    from c4c.extract.datasets.shapes import EDITION, Recipe

    _make(root, Recipe(seed, train, val, test), EDITION)


@make.command("shapes-unseen")
@_recipe
def shapes_unseen(root: Path, seed: int, train: int, val: int, test: int) -> None:
    """The same with shapes, colours and textures that the backbone tiny has never seen."""
    from c4c.extract.datasets.shapes import Recipe
    from c4c.extract.datasets.shapes_unseen import EDITION

    _make(root, Recipe(seed, train, val, test), EDITION)


def _make(root: Path, recipe: Recipe, edition: Edition) -> None:
    from c4c.core.progress import say
    from c4c.extract.datasets.shapes import make_shapes

    made = make_shapes(root, recipe, edition)
    say(f"{root}: {'written' if made else 'already there'}")


@make.command("shapes-moments")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="Folder to write.")
@click.option("--seed", type=SEED, default=0, show_default=True, help="Of the videos.")
@click.option("--videos", type=COUNT, default=75, show_default=True,
              help="Long videos; six questions each.")  # fmt: skip
def shapes_moments(root: Path, seed: int, videos: int) -> None:
    """Long videos of several events, and questions for moments of them (moments.jsonl)."""
    from c4c.core.progress import say
    from c4c.extract.datasets.shapes_moments import MomentsRecipe, make_shapes_moments

    made = make_shapes_moments(root, MomentsRecipe(seed, videos))
    say(f"{root}: {'written' if made else 'already there'}")
