"""A cache outlives the machine and the decoder that it was begun with."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c4c.cache.compact import compact
from c4c.cache.inspect import describe
from c4c.cache.open import Cache
from c4c.cache.stored import read_shard
from c4c.core.errors import C4CError
from c4c.extract import opening, pipeline
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract

Extract = Callable[..., Cache]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("upgrades") / "shapes"
    make_shapes(root, Recipe(seed=8, train=2, val=0, test=0))
    return sorted((root / "videos").rglob("*.mp4"))[:2]


@pytest.fixture
def extract(tmp_path: Path, videos: list[Path]) -> Extract:
    """Extracts a folder to which each call adds one video."""
    (tmp_path / "videos").mkdir()
    rest = list(videos)

    def more(**given: str) -> Cache:
        path = rest.pop()
        (tmp_path / "videos" / path.name).write_bytes(path.read_bytes())
        settings = {"backbone": "tiny", "device": "cpu", **given}
        config = ExtractConfig(
            dataset="folder",
            root=tmp_path / "videos",
            cache=tmp_path / "cache",
            workers=1,
            **settings,
        )
        run_extract(config)
        return Cache.open(tmp_path / "cache")

    return more


def decoders(cache: Cache) -> list[str]:
    return sorted(
        read_shard(path, cache.owner).decoder for path in (cache.path / "shards").rglob("*.h5")
    )


def test_another_version_of_the_decoder_is_said_and_recorded(
    extract: Extract, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = extract().fingerprint.decoder
    monkeypatch.setattr(pipeline, "decoder_version", lambda name: f"{name} 99.1")
    cache = extract()
    assert f"was begun with {begun}, and this is pyav 99.1" in capsys.readouterr().err
    assert cache.fingerprint.decoder == begun
    assert decoders(cache) == ["", "pyav 99.1"]
    assert len(cache.clips()) == 2
    assert describe(cache.path)["splits"]["all"]["decoders"] == ["pyav 99.1"]
    compact(cache.path, 16)
    assert decoders(Cache.open(cache.path)) == ["pyav 99.1"]


def test_another_decoder_is_refused(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    extract()
    monkeypatch.setattr(pipeline, "decoder_version", lambda name: "other 1.0")
    with pytest.raises(C4CError, match="decoder: other 1.0, pyav"):
        extract()


def test_precision_follows_the_cache_unless_it_is_asked_for(extract: Extract) -> None:
    assert extract(precision="bfloat16").fingerprint.dtype == "bfloat16"
    clips = extract(precision="auto").clips()  # where auto is float32: the tiny backbone's
    assert len(clips) == 2
    assert np.isfinite(clips.read(1)[0]).all()
    config = ExtractConfig(dataset="folder", cache=clips.path, precision="float32")
    assert opening.settled(config).precision == "float32"
    assert opening.settled(dataclasses.replace(config, precision="auto")).precision == "bfloat16"
