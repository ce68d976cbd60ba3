"""A run with nothing to do loads no backbone; whatever has changed is looked at as ever."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from c4c.core.errors import C4CError
from c4c.extract import known, opening
from c4c.extract.backbone.load import load_backbone
from c4c.extract.config import ExtractConfig
from c4c.extract.pipeline import run_extract

YEAR = 365 * 24 * 3600


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the backbones that are loaded."""
    names: list[str] = []
    load: Callable[..., Any] = opening.load_backbone

    def noted(name: str, *rest: Any) -> Any:
        names.append(name)
        return load(name, *rest)

    monkeypatch.setattr(opening, "load_backbone", noted)
    return names


@pytest.fixture
def config(shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExtractConfig:
    """An extraction of two videos, done once; its weights are in a file that has settled."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(known, "_SETTLED", 0)
    (tmp_path / "videos").mkdir()
    for name in ("val-00000-a.mp4", "val-00000-b.mp4"):
        shutil.copy(shapes_root / "videos" / name, tmp_path / "videos")
    load_backbone("tiny").save(tmp_path / "w.safetensors")
    os.utime(tmp_path / "w.safetensors", (YEAR, YEAR))
    config = ExtractConfig(
        dataset="folder", root=tmp_path / "videos", cache=tmp_path / "cache", backbone="tiny",
        pretrained=str(tmp_path / "w.safetensors"), workers=1,
    )  # fmt: skip
    assert run_extract(config).clips == 2
    return config


def test_nothing_is_loaded_when_nothing_is_to_be_done(
    config: ExtractConfig, loads: list[str]
) -> None:
    done = run_extract(config)
    assert (done.clips, done.expected, done.complete, loads) == (2, 2, True, [])


def test_a_new_video_is_extracted(
    config: ExtractConfig, loads: list[str], shapes_root: Path
) -> None:
    assert config.root is not None
    shutil.copy(shapes_root / "videos/val-00001-a.mp4", config.root)
    assert run_extract(config).clips == 3
    assert loads == ["tiny"]
    assert run_extract(config).clips == 3
    assert loads == ["tiny"]


@pytest.mark.parametrize("change", [{"fps": 2.0}, {"features": "hidden"}, {"batch": 8}])
def test_other_settings_are_checked_against_the_cache(
    config: ExtractConfig, loads: list[str], change: dict[str, Any]
) -> None:
    with pytest.raises(C4CError):
        run_extract(replace(config, **change))
    assert loads == ["tiny"]


def test_weights_that_were_written_anew_are_looked_at(
    config: ExtractConfig, loads: list[str]
) -> None:
    assert config.pretrained is not None
    load_backbone("tiny", "none").save(Path(config.pretrained))
    with pytest.raises(C4CError, match="weights"):
        run_extract(config)
    assert loads == ["tiny"]
