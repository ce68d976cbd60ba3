"""What tests of several rooms look at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import settings

# Property tests try the same cases at every run, so that a fresh clone sees what the author saw.
# By hand, others and more of them: HYPOTHESIS_PROFILE=drawn make test
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=80)
settings.register_profile("drawn", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session")
def decoders() -> Callable[..., list[psutil.Process]]:
    """Gives the decoder processes below a process, this one if no other is named."""

    def found(pid: int | None = None) -> list[psutil.Process]:
        alive = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it ended meanwhile
                    if "c4c.extract.worker" in str(child.cmdline()):
                        alive.append(child)
        return alive

    return found


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small videos of shapes: 48 clips to train on, 8 each (four pairs of twins) beside them."""
    from c4c.extract.datasets.shapes import Recipe, make_shapes

    root = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(root, Recipe(seed=5, train=48, val=8, test=8))
    return root


@pytest.fixture(scope="session")
def shapes_cache(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their features by the shipped backbone; 8 frames a clip."""
    from c4c.extract.config import ExtractConfig
    from c4c.extract.pipeline import run_extract

    cache = tmp_path_factory.mktemp("cache") / "shapes"
    run_extract(
        ExtractConfig(dataset="shapes", root=shapes_root, cache=cache, backbone="tiny", workers=1)
    )
    return cache
