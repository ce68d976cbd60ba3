"""``c4c dataset``: check a dataset's files, or make the synthetic one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from c4c.cli.options import PATH, GroupedCommand, option, settings_options
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import MomentsRecipe, Recipe

if TYPE_CHECKING:
    from c4c.extract.datasets.shapes import Edition


@click.group()
def command() -> None:
    """Check a dataset's files, or make the synthetic one."""


@command.command(cls=GroupedCommand, epilog="c4c dataset check msrvtt --root data/msrvtt")
@click.argument("name")
@settings_options(ExtractConfig, only=("root", "videos", "captions"))
@option("Data", "--split", "splits", multiple=True, help="Split to check; repeatable. [all]")
@option("Data", "--strict", is_flag=True, help="Exit 2 when anything is odd.")
@option("Output", "--missing-file", type=PATH, help="Write missing ids here.")
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


@command.command(cls=GroupedCommand, epilog="c4c dataset unpack test.parquet --out videos")
@click.argument("tables", nargs=-1, required=True, type=PATH)
@option("Output", "--out", required=True, type=PATH, help="Folder to write.")
def unpack(tables: tuple[Path, ...], out: Path) -> None:
    """Write the videos that lie in parquet TABLES as bytes to files, for --videos."""
    from c4c.core.progress import say
    from c4c.extract.datasets.unpack import unpack as run

    say(f"{out}: {len(run(tables, out))} videos")


@command.group()
def make() -> None:
    """Make a synthetic dataset."""


_ROOT = option("Data", "--root", required=True, type=PATH, help="Folder to write.")


@make.command(cls=GroupedCommand, epilog="c4c dataset make shapes --root c4c-data/shapes")
@_ROOT
@settings_options(Recipe)
def shapes(root: Path, **recipe: int) -> None:
    """Coloured shapes that move and grow, in H.264; val and test are twins."""
    from c4c.extract.datasets.shapes import EDITION

    _make(root, Recipe(**recipe), EDITION)


@make.command(
    "shapes-unseen",
    cls=GroupedCommand,
    epilog="c4c dataset make shapes-unseen --root c4c-data/shapes-unseen",
)
@_ROOT
@settings_options(Recipe)
def shapes_unseen(root: Path, **recipe: int) -> None:
    """The same with shapes, colours and textures that the backbone tiny has never seen."""
    from c4c.extract.datasets.shapes_unseen import EDITION

    _make(root, Recipe(**recipe), EDITION)


def _make(root: Path, recipe: Recipe, edition: Edition) -> None:
    from c4c.core.progress import say
    from c4c.extract.datasets.shapes import make_shapes

    made = make_shapes(root, recipe, edition)
    say(f"{root}: {'written' if made else 'already there'}")


@make.command(
    "shapes-moments",
    cls=GroupedCommand,
    epilog="c4c dataset make shapes-moments --root c4c-data/shapes-moments",
)
@_ROOT
@settings_options(MomentsRecipe)
def shapes_moments(root: Path, **recipe: int) -> None:
    """Long videos of several events, and questions for moments of them (moments.jsonl)."""
    from c4c.core.progress import say
    from c4c.extract.datasets.shapes_moments import make_shapes_moments

    made = make_shapes_moments(root, MomentsRecipe(**recipe))
    say(f"{root}: {'written' if made else 'already there'}")
