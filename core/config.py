"""``c4c.toml`` in the working directory: defaults for options, and where datasets lie."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from c4c.core.errors import C4CError
from c4c.core.schema import Rest, parse
from c4c.core.toml import read_toml

FILE = "c4c.toml"
MADE = ("shapes", "shapes-unseen")  # synthetic: made where they do not exist


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Where a dataset lies, as the options, ``c4c.toml`` or ``$C4C_DATA`` said.

    Attributes:
        name: the dataset's name in the registry.
        root: folder of the annotations (and of the videos, unless ``videos`` says otherwise).
        videos: folder of the videos, searched below; ``None`` means ``root``.
        captions: captions file, for datasets that take one (``folder``).
        looked: how ``root`` was found, for messages ("--root", "c4c.toml [datasets.lsmdc]").
        only_captioned: of ``folder``, only the videos that the captions file names.
        include: patterns of the files to look at, by name or path below the folder; empty is all.
        exclude: patterns of those to pass over.
    """

    name: str
    root: Path
    videos: Path | None = None
    captions: Path | None = None
    looked: str = "--root"
    only_captioned: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def video_root(self) -> Path:
        """The folder that holds the videos."""
        return self.videos or self.root


@dataclass(frozen=True, slots=True)
class _Place:
    """A table ``[datasets.NAME]``."""

    root: Path | None = None
    videos: Path | None = None
    captions: Path | None = None
    others: Annotated[dict[str, Any], Rest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.others:
            raise C4CError(f"unknown key '{min(self.others)}'; known are root, videos, captions.")


def load_config(folder: str = ".") -> dict[str, Any]:
    """The content of ``c4c.toml`` in ``folder``; empty when there is none.

    A table named like a command holds defaults of its options under their own names
    (``[retrieve] top-k = 20``; ``c4c.cli.defaults`` checks them); ``[datasets.NAME]`` holds
    ``root``, ``videos`` and ``captions``.

    Raises:
        C4CError: the file is not TOML.
    """
    path = Path(folder) / FILE
    return read_toml(path) if path.exists() else {}


def dataset_source(
    name: str,
    root: Path | None = None,
    videos: Path | None = None,
    captions: Path | None = None,
) -> DatasetSource:
    """Find where dataset ``name`` lies: options, then ``c4c.toml``, then ``$C4C_DATA/name``.

    The folder need not exist yet: loaders say what is missing in it.

    Raises:
        C4CError: nothing says where the dataset lies; the message lists the three ways.
    """
    places = parse(dict[str, _Place], load_config().get("datasets", {}), f"{FILE}: datasets")
    place = places.get(name, _Place())
    videos = videos or _expanded(place.videos)
    captions = captions or _expanded(place.captions)
    if root is not None:
        return DatasetSource(name, root, videos, captions, "--root")
    if named := _expanded(place.root):
        where = f"{FILE} [datasets.{name}]"
        return DatasetSource(name, named, videos, captions, where)
    data = os.environ.get("C4C_DATA")
    if data:
        where = f"$C4C_DATA/{name}"
        return DatasetSource(name, Path(os.path.expanduser(data)) / name, videos, captions, where)
    if name in MADE:
        return DatasetSource(name, Path("c4c-data") / name, videos, captions, "the default")
    raise C4CError(
        f"Where is dataset '{name}'? Looked for --root (not given), a root in {FILE} "
        f"[datasets.{name}] (none) and $C4C_DATA (not set). Pass --root FOLDER."
    )


def check_part(option: str, part: tuple[int, int]) -> None:
    """Insist that ``i/n`` is a part of n: parts are counted from 0, in every command.

    Raises:
        C4CError: it is none; the message says which ones there are.
    """
    number, parts = part
    if not 0 <= number < parts:
        there = f": 0/{parts} to {parts - 1}/{parts}" if parts > 0 else ", such as 0/8"
        raise C4CError(f"{option} {number}/{parts}: parts are counted from 0{there}.")


def _expanded(path: Path | None) -> Path | None:
    """A path with ``~`` spelled out; that of a user who does not exist stays as it is."""
    return Path(os.path.expanduser(path)) if path else None
