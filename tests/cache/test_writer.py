"""``CacheWriter``: anybody's own features become a cache that verifies, trains and is evaluated."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import c4c
from c4c.cache import writer as module
from c4c.cache.inspect import damage
from c4c.core.records import Fingerprint

DIM = 6
MADE_BY = {"model": "my-encoder", "weights": "v3"}


def features(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def write(path: Path, split: str = "train", clips: int = 5, **settings: Any) -> c4c.Cache:
    """A split of clips of 1, 2, … frames, with two captions each."""
    with c4c.CacheWriter(path, "birds", settings.pop("made_by", MADE_BY), split) as writer:
        for place in reversed(range(clips)):
            name = f"{split}{place}"
            writer.add_clip(name, features(place + 1, DIM, seed=place), np.arange(place + 1) / 2)
            writer.add_caption(name, f" bird {place} ", features(DIM, seed=100 + place))
            writer.add_caption(name, f"the {place}th bird", features(DIM), id=f"{name}-b")
    return writer.cache


def test_what_was_added_is_what_is_read(tmp_path: Path) -> None:
    cache = write(tmp_path / "mine")
    clips, captions = cache.clips("train"), cache.captions("train")
    assert clips.ids == tuple(f"train{place}" for place in range(5))  # sorted, as extraction does
    for place in range(5):
        row, times = clips.read(place)
        assert (row == features(place + 1, DIM, seed=place).astype(np.float16)).all()
        assert times.tolist() == [step / 2 for step in range(place + 1)]
    assert [one.text for one in captions.captions[:2]] == ["bird 4", "the 4th bird"]
    assert (captions.features[0] == features(DIM, seed=104).astype(np.float16)).all()
    assert list(damage(cache.path)) == []


def test_the_files_are_the_same_however_often_they_are_written(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")

    def content(name: str) -> dict[str, bytes]:
        root = tmp_path / name
        return {str(one.relative_to(root)): one.read_bytes()
                for one in root.rglob("*") if one.is_file()}  # fmt: skip

    assert content("a") == content("b")


def test_many_features_are_written_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SHARD", 4 * DIM * 2)  # bytes: four frames
    cache = write(tmp_path / "mine")
    parts = [part.ids for part in cache.manifests["train"].parts]
    assert parts == [("train4",), ("train3",), ("train2", "train1"), ("train0",)]
    assert cache.clips().lengths.tolist() == [1, 2, 3, 4, 5]
    assert list(damage(cache.path)) == []


def test_a_head_is_trained_and_evaluated_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine")
    cache = write(tmp_path / "mine", "val", 3)  # a second split of the same features
    assert cache.splits == ("train", "val")
    settings = {"epochs": 1, "batch": 4, "progress": False}
    trained = c4c.train_head(cache, head="seqLSTM", **settings)
    found = c4c.evaluate(cache, checkpoint=trained, split="val", progress=False)
    assert (found.metrics["t2v"].queries, found.metrics["t2v"].gallery) == (6, 3)
    assert not any("leak" in note for note in found.notes)
    seen = c4c.evaluate(cache, checkpoint=trained, split="train", progress=False)
    assert any("leak: 5 of 5" in note for note in seen.notes)


def test_a_split_that_was_not_finished_is_none(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), c4c.CacheWriter(tmp_path / "m", "b", MADE_BY) as writer:
        writer.add_clip("a", features(1, DIM), [0])
        1 / 0  # noqa: B018
    assert c4c.Cache.open(tmp_path / "m").splits == ()


def test_a_cache_takes_features_of_one_kind(tmp_path: Path) -> None:
    write(tmp_path / "m")
    with pytest.raises(c4c.C4CError, match="has a split 'train'"):
        write(tmp_path / "m")
    with pytest.raises(c4c.C4CError, match="other settings .*weights: v4, v3"):
        write(tmp_path / "m", "val", made_by={"model": "my-encoder", "weights": "v4"})


def test_a_fingerprint_that_is_not_whole_is_completed_or_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "a").fingerprint
    other = write(tmp_path / "b", made_by={**MADE_BY, "decoder": "mine 2"}).fingerprint
    assert one.sha256 != other.sha256
    whole = dataclasses.replace(one, sha256="0" * 64)
    assert write(tmp_path / "c", made_by=whole).fingerprint == whole
    assert isinstance(one, Fingerprint)
    for wrong, words in (({}, "no model"), ({"model": "m", "wieghts": 3}, "unknown field 'wieg")):
        with pytest.raises(c4c.C4CError, match=words):
            write(tmp_path / "d", made_by=wrong)


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (lambda w: w.add_clip("a", features(2, DIM), [0, 1]), "duplicate clip id 'a'"),
        (lambda w: w.add_clip("", features(1, DIM), [0]), "empty id"),
        (
            lambda w: w.add_clip("b", features(DIM), [0]),
            r"float64 \[6\], expected numbers",
        ),
        (lambda w: w.add_clip("b", features(0, DIM), []), r"expected numbers \[F, D\]"),
        (lambda w: w.add_clip("b", [["x"]], [0]), r"expected numbers \[F, D\]"),
        (lambda w: w.add_clip("b", features(1, 5), [0]), "5 channels, and those before have 6"),
        (lambda w: w.add_clip("b", features(1, DIM) * np.nan, [0]), "not finite"),
        (lambda w: w.add_clip("b", features(1, DIM) + 1e5, [0]), "too large for float16"),
        (lambda w: w.add_clip("b", features(2, DIM), [0]), r"times are \(1,\), expected \(2,\)"),
        (lambda w: w.add_clip("b", features(2, DIM), [1, 1]), "times must increase"),
        (lambda w: w.add_clip("b", features(1, DIM), [-1]), "from 0 seconds"),
        (lambda w: w.add_clip("b", features(1, DIM), [0], end=0.0), "after start"),
        (lambda w: w.add_caption("a", " ", features(DIM)), "is empty"),
        (lambda w: w.add_caption("a", "x", features(DIM), id="a-1"), "duplicate caption id 'a-1'"),
        (lambda w: w.add_caption("a", "x", features(2, DIM)), r"\(2, 6\), expected \[D\]"),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_rest_kept(
    add: Any, words: str, tmp_path: Path
) -> None:
    with c4c.CacheWriter(tmp_path / "m", "birds", MADE_BY) as writer:
        writer.add_clip("a", features(1, DIM), [0])
        writer.add_caption("a", "x", features(DIM), id="a-1")
        with pytest.raises(c4c.C4CError, match=words):
            add(writer)
    assert repr(writer) == f"CacheWriter('{tmp_path}/m', split 'all': 1 clips, 1 captions, dim 6)"
    assert (len(writer.cache.clips()), len(writer.cache.captions())) == (1, 1)


def test_captions_without_their_clip_and_splits_without_clips_are_refused(tmp_path: Path) -> None:
    writer = c4c.CacheWriter(tmp_path / "m", "birds", MADE_BY)
    with pytest.raises(c4c.C4CError, match="no clip was added to split 'all'"):
        writer.close()
    writer.add_caption("a", "x", features(DIM))
    with pytest.raises(c4c.C4CError, match="caption 'a#0' is of clip 'a', which was not added"):
        writer.close()
