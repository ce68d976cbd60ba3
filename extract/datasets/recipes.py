"""What synthetic datasets are made from; options of the commands that make them."""

from __future__ import annotations

from dataclasses import dataclass

from c4c.core.limits import MOST_SEED
from c4c.core.settings import check, setting

_MOST = 1 << 20  # clips of a split


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a shapes folder was made from: the same recipe gives the same files.

    Attributes:
        seed: of everything that is drawn.
        train: clips of the split.
        val: likewise.
        test: likewise.
        version: of the way they are made.
    """

    seed: int = setting("Data", "Of the videos.", 0, within=(0, MOST_SEED))
    train: int = setting("Data", "Clips.", 1800, within=(0, _MOST))
    val: int = setting("Data", "Clips.", 100, within=(0, _MOST))
    test: int = setting("Data", "Clips.", 200, within=(0, _MOST))
    version: int = 1

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class MomentsRecipe:
    """What a folder of shapes-moments was made from: the same recipe gives the same files.

    Attributes:
        seed: of everything that is drawn.
        videos: how many; four questions each, and two more that have no answer.
        version: of the way they are made.
    """

    seed: int = setting("Data", "Of the videos.", 0, within=(0, MOST_SEED))
    videos: int = setting("Data", "Long videos; six questions each.", 75, within=(0, _MOST))
    version: int = 1

    def __post_init__(self) -> None:
        check(self)
