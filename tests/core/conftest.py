"""A small real cache and its dataset, for commands that are run as a user runs them."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from c4c.cli.app import main
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(root, Recipe(seed=5, train=8, val=2, test=2))
    return root


@pytest.fixture(scope="session")
def small_cache(small_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache") / "shapes"
    run_extract(
        ExtractConfig(
            dataset="shapes", root=small_root, cache=cache, backbone="tiny", workers=1, device="cpu"
        )
    )
    return cache


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def c4c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs a command in this process, where everything is imported already."""

    def run(*args: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["c4c", *args])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return Ran(int(left.value.code or 0), said.out, said.err)

    return run
