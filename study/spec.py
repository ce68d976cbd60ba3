"""A study: a question, a grid of settings, and how it is trained; read from TOML."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError
from c4c.core.schema import parse
from c4c.core.toml import read_toml

MODES = ("cached", "e2e", "zero-shot")
_KEYS = ("question", "mode", "settings", "baseline", "grid", "pretrain")
_MOST = 10_000  # variants: each is trained, and a grid of ten settings is a mistake
Settings = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a study varies.

    Attributes:
        name: of the study, and of its folder.
        question: what it answers.
        mode: ``cached``, ``e2e`` or ``zero-shot`` (nothing is trained).
        grid: setting to its values; every combination is a variant.
        settings: what all variants share.
        baseline: settings of the variant that the others are compared with; empty for none.
        pretrain: settings of the post-pretraining that ``post_pretrain = true`` goes on from.
    """

    name: str
    question: str
    mode: str
    grid: dict[str, list[Any]]
    settings: Settings = field(default_factory=dict)
    baseline: Settings = field(default_factory=dict)
    pretrain: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"study '{self.name}'"
        if self.mode not in MODES:
            raise C4CError(f"{where}: mode is '{self.mode}', expected {', '.join(MODES)}.")
        count = math.prod(len(values) for values in self.grid.values())
        if not self.grid or not count:
            raise C4CError(f"{where}: [grid] is empty: name a setting and its values.")
        if count > _MOST:
            raise C4CError(f"{where}: [grid] has {count} combinations, more than {_MOST}.")
        if self.baseline and self.baseline not in self.variants():
            raise C4CError(f"{where}: the baseline {self.baseline} is no variant of the grid.")

    def variants(self) -> list[Settings]:
        """Every combination of the grid, in its order."""
        keys = list(self.grid)
        return [dict(zip(keys, one, strict=True)) for one in product(*self.grid.values())]


def built_in() -> dict[str, Any]:
    """The studies that ship with c4c, by name."""
    return tomllib.loads((files("c4c.study") / "studies.toml").read_text(encoding="utf-8"))


def load_study(name: str) -> Study:
    """A built-in study by name, or one from a TOML file.

    Raises:
        C4CError: no such study or file, or content that is none.
    """
    shipped = built_in()
    if name in shipped:
        return make_study(name, shipped[name])
    path = Path(name)
    if not path.is_file():
        raise C4CError(f"No study '{name}': neither a file nor one of {', '.join(shipped)}.")
    return make_study(path.stem, read_toml(path))


def make_study(name: str, table: dict[str, Any]) -> Study:
    """A study from its table.

    Raises:
        C4CError: a key that is unknown, lacking, or of the wrong kind.
    """
    for key in table:
        if key not in _KEYS:
            raise C4CError(f"study '{name}': unknown key '{key}'. Known: {', '.join(_KEYS)}.")
    content = {"question": name, "mode": "cached", **table, "name": name}
    return parse(Study, content, f"study '{name}'")
