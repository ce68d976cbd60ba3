"""A small real cache, made once: shapes videos through the shipped backbone."""

from pathlib import Path

import pytest

from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.shapes import Recipe, make_shapes
from c4c.extract.pipeline import run_extract


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(root, Recipe(seed=5, train=48, val=8, test=8))
    return root


@pytest.fixture(scope="session")
def shapes_cache(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache") / "shapes"
    run_extract(
        ExtractConfig(dataset="shapes", root=shapes_root, cache=cache, backbone="tiny", workers=1)
    )
    return cache
