"""A folder to work in, with a copy of the small cache of shapes."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def cache(shapes_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(shapes_cache, tmp_path / "c4c-cache/shapes"))
