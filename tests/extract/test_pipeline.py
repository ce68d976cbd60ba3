"""What an extraction is told reaches the features, and what is not a number never does."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from c4c.cache.compact import compact
from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, Dataset
from c4c.extract.backbone.load import load_backbone
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipeline") / "shapes"
    make_shapes(root, Recipe(seed=4, train=6, val=0, test=0))
    return root


def config(root: Path, cache: Path, **changes: Any) -> ExtractConfig:
    given = {"dataset": "shapes", "root": root, "cache": cache, "splits": ("train",)}
    given |= {"backbone": "tiny", "precision": "float32", "workers": 1, "device": "cpu"}
    return ExtractConfig(**{**given, **changes})


@pytest.fixture(scope="module")
def plain(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("plain") / "cache"
    run_extract(config(root, cache))
    return cache


def words_of(cache: Path, limit: int | None) -> np.ndarray:
    """Features of the cache's captions, encoded anew with so many tokens."""
    backbone = load_backbone("tiny", device="cpu", precision="float32")
    texts = [caption.text for caption in Cache.open(cache).captions().captions]
    with torch.inference_mode():
        return np.asarray(backbone.encode_text(backbone.tokenize(texts, limit)).half().numpy())


def test_captions_are_cut_at_the_words_asked_for_and_the_cache_says_so(
    root: Path, plain: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    run_extract(config(root, cut, max_words=6))
    short, whole = Cache.open(cut).captions().features, Cache.open(plain).captions().features
    np.testing.assert_allclose(short, words_of(cut, 6), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(whole, words_of(plain, None), rtol=2e-3, atol=2e-3)
    assert np.abs(short - whole).max() > 0.05
    assert "words=6" in Cache.open(cut).fingerprint.sampling
    for other in (7, None):
        with pytest.raises(C4CError, match="sampling: .*words=6"):
            run_extract(config(root, cut, max_words=other))
    with pytest.raises(C4CError, match="sampling: .*words=6"):
        run_extract(config(root, plain, max_words=6))


@pytest.mark.parametrize(
    ("changes", "recorded"),
    [
        ({"fps": 2.0}, "sampling: fps=2 "),
        ({"max_frames": 3}, "max=3"),
        ({"max_frames": 3, "sampling": "head"}, "head"),
        ({"features": "hidden"}, "features: hidden, final"),
    ],
    ids=str,
)
def test_what_changes_features_is_recorded_and_does_not_mix(
    changes: dict[str, Any], recorded: str, root: Path, plain: Path, tmp_path: Path
) -> None:
    with pytest.raises(C4CError, match=recorded):
        run_extract(config(root, plain, **changes))
    other = tmp_path / "other"
    run_extract(config(root, other, **changes))
    mine, theirs = Cache.open(other).clips(), Cache.open(plain).clips()
    assert mine.ids == theirs.ids
    assert any(
        mine.read(place)[0].shape != theirs.read(place)[0].shape
        or not np.array_equal(mine.read(place)[0], theirs.read(place)[0])
        for place in range(len(mine))
    )


def test_frames_are_taken_at_the_times_asked_for(root: Path, plain: Path, tmp_path: Path) -> None:
    """The cache keeps each frame's second: a head that sees less of it sees the same frames."""
    run_extract(config(root, tmp_path / "few", fps=2.0, max_frames=3, sampling="tail"))
    run_extract(config(root, tmp_path / "many", fps=2.0))
    few, many = Cache.open(tmp_path / "few").clips(), Cache.open(tmp_path / "many").clips()
    for place in range(len(few)):
        times, whole = few.read(place)[1], many.read(place)[1]
        assert np.array_equal(times, whole[-3:])
        assert np.diff(whole) == pytest.approx(0.5, abs=0.1)
        np.testing.assert_allclose(
            few.read(place)[0], many.read(place)[0][-3:], rtol=2e-2, atol=2e-2
        )


def test_features_that_are_not_finite_make_a_clip_corrupt_and_no_other(
    root: Path, plain: Path, tmp_path: Path
) -> None:
    """A projection so large that the clip with the largest features overflows float16."""
    clips = Cache.open(plain).clips()
    sizes = [float(np.abs(clips.read(place)[0]).max()) for place in range(len(clips))]
    first, second = np.argsort(sizes)[::-1][:2]
    state = load_backbone("tiny", device="cpu", precision="float32").model.state_dict()
    state["visual.proj"] *= 65504 / (sizes[first] * sizes[second]) ** 0.5
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "w.safetensors")
    done = run_extract(config(root, tmp_path / "c", pretrained=str(tmp_path / "w.safetensors")))
    (failed,) = done.failed
    assert (failed.clip_id, failed.status) == (clips.ids[first], "corrupt")
    assert "not finite" in failed.message
    assert done.clips == len(clips) - 1
    found = Cache.open(tmp_path / "c").clips()
    assert found.ids == tuple(name for name in clips.ids if name != failed.clip_id)
    assert all(np.isfinite(found.read(place)[0]).all() for place in range(len(found)))
    assert all(len(found.read(place)[1]) for place in range(len(found)))
    settings = {"pretrained": str(tmp_path / "w.safetensors"), "max_fail_rate": 0.1}
    with pytest.raises(C4CError, match="1 of 6 clips"):
        run_extract(config(root, tmp_path / "d", **settings))


def test_compaction_removes_what_the_dead_left_and_not_what_living_writers_hold(
    tmp_path: Path, write_cache: Callable[..., Path]
) -> None:
    clips = tuple(Clip(f"clip{n}", f"{n}.mp4") for n in range(3))
    captions = tuple(Caption(f"c{n}", f"clip{n}", "words") for n in range(3))
    frames = {clip.id: np.ones((2, 4)) for clip in clips}
    words = {one.id: np.ones(4) for one in captions}
    cache = write_cache(
        tmp_path / "cache", Dataset("folder", "all", clips, captions), frames, words
    )
    old, young = [], []
    for folder, name in (("tmp", "x"), (".", ".tmp-x"), ("manifests", ".tmp-x")):
        for found, age in ((old, 7200), (young, 1800)):
            path = cache / folder / f"{name}{age}"
            path.write_bytes(b"half a shard")
            os.utime(path, (time.time() - age, time.time() - age))
            found.append(path)
    compact(cache, 16)
    assert [path.exists() for path in old] == [False] * 3
    assert [path.exists() for path in young] == [True] * 3
