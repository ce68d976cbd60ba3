"""What a cache exports, read back without c4c: clips and captions, and their features."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from c4c.cache.export import export_cache
from c4c.cache.open import Cache
from c4c.cli.app import group
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("export")
    make_shapes(here / "shapes", Recipe(seed=8, train=4, val=0, test=2))
    rows = [json.loads(line) for line in (here / "shapes/captions.jsonl").read_text().splitlines()]
    split = ("one", "../two")
    lines = [
        json.dumps(
            {"video": f"{row['clip']}.mp4", "caption": row["caption"], "split": split[n % 2]}
        )
        for n, row in enumerate(rows)
    ]
    (here / "captions.jsonl").write_text("\n".join(lines))
    config = ExtractConfig(
        dataset="folder", root=here / "shapes/videos", captions=here / "captions.jsonl",
        cache=here / "cache", splits=split, backbone="tiny", max_frames=3, workers=1,
    )  # fmt: skip
    run_extract(config)
    return config.cache


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_arrays_and_tables_hold_clips_and_captions(cache: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(group, ["cache", "export", str(cache), "--out", str(tmp_path)])
    assert done.exit_code == 0
    written = {Path(line) for line in done.stdout.splitlines()}
    assert written == set(tmp_path.iterdir())
    clips, captions = Cache.open(cache).clips("one"), Cache.open(cache).captions("one")
    features, offsets = (np.load(tmp_path / f"one.{what}.npy") for what in ("features", "offsets"))
    assert features.dtype == np.float16
    table = lines(tmp_path / "one.clips.jsonl")
    assert [row["id"] for row in table] == list(clips.ids)
    for place, own in enumerate(np.split(features, offsets[1:-1])):
        assert np.array_equal(own, clips.read(place)[0])
        assert table[place]["frames"] == len(own)
    texts, said = np.load(tmp_path / "one.texts.npy"), lines(tmp_path / "one.captions.jsonl")
    assert np.array_equal(texts, captions.features)
    assert said == [
        {"id": one.id, "clip": one.clip_id, "text": one.text} for one in captions.captions
    ]


def test_parquet_holds_the_same(cache: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export_cache(cache, "one", "parquet", tmp_path)
    captions = Cache.open(cache).captions("one")
    rows = parquet.read_table(tmp_path / "one.captions.parquet").to_pylist()
    assert [(row["id"], row["clip"], row["text"]) for row in rows] == [
        (one.id, one.clip_id, one.text) for one in captions.captions
    ]
    found = np.array([row["features"] for row in rows], np.float16)
    assert np.array_equal(found, captions.features)
    assert len(parquet.read_table(tmp_path / "one.parquet")) == len(Cache.open(cache).clips("one"))


def test_a_splits_name_leads_nowhere_else(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = export_cache(cache, "../two", "npy", out)
    assert {path.parent for path in written} == {out}
    assert list(tmp_path.iterdir()) == [out]
