"""Evaluation: figures of known similarities, twins, and what is said beside."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c4c.cache.open import ClipFeatures
from c4c.core.errors import C4CError
from c4c.core.records import Leak, Overlap
from c4c.core.sampling import View
from c4c.heads import build_head
from c4c.retrieval.compare import parse_results
from c4c.retrieval.evaluate import READABLE, SCHEMA, evaluate
from c4c.retrieval.metrics import retrieval_ranks

DIM = 64
MakeSplit = Callable[..., Any]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that float16 holds as they are."""
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return drawn.astype(np.float16).astype(np.float32)


def mean_vectors(clips: ClipFeatures) -> np.ndarray:
    """Mean pooling by its definition, float64 [N, D]."""
    means = []
    for place in range(len(clips)):
        frames = clips.read(place)[0].astype(np.float64)
        means.append((frames / np.linalg.norm(frames, axis=1, keepdims=True)).mean(0))
    return units(np.array(means))


def units(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_captions_that_point_at_their_clips_find_them(make_split: MakeSplit) -> None:
    found = evaluate(build_head("meanP", DIM), *make_split())
    assert found.metrics["t2v"].r1 == found.metrics["v2t"].r1 == 100
    assert found.twins == 100
    assert found.best[:, 0].tolist() == list(range(8))
    assert found.notes == ()


def test_figures_of_mean_pooling_are_those_of_its_definition(make_split: MakeSplit) -> None:
    clips, captions = make_split(random(12, 5, DIM), random(30, DIM, seed=1))
    found = evaluate(build_head("meanP", DIM), clips, captions)
    scores = units(captions.features.astype(np.float64)) @ mean_vectors(clips).T
    own = np.arange(30) % 12
    expected = retrieval_ranks(scores, own)
    for way, own_ranks in expected.items():
        assert found.ranks[way].ahead.tolist() == own_ranks.ahead.tolist()
    assert found.best.tolist() == np.argsort(-scores, axis=1)[:, :10].tolist()
    rows = np.arange(30)
    assert found.twin_wins.tolist() == (scores[rows, own] > scores[rows, own ^ 1]).tolist()
    assert "several captions a clip" in found.notes[0]


def test_a_gallery_that_lacks_clips_is_said_beside_the_figures(make_split: MakeSplit) -> None:
    found = evaluate(build_head("meanP", DIM), *make_split(gone=("lost",), failed=("clip03",)))
    assert (found.metrics["t2v"].gallery, found.metrics["t2v"].gallery_expected) == (7, 9)
    assert found.metrics["t2v"].queries == 7
    assert (found.missing, found.failed) == (("lost",), ("clip03",))
    assert "not comparable: 2 of 9 clips" in found.notes[0]
    assert "(1 without video, 1 failed)" in found.notes[0]
    assert "1 captions left out" in found.notes[1]
    assert np.isnan(found.twin_wins[2])  # its twin has failed
    assert found.metrics["t2v"].r1 == 100


def test_equal_clips_tie_and_score_chance(make_split: MakeSplit) -> None:
    same = random(1, 3, DIM).repeat(8, 0)
    found = evaluate(build_head("meanP", DIM), *make_split(same, random(8, DIM, seed=1)))
    assert found.metrics["t2v"].r1 == pytest.approx(100 / 8)
    assert found.twins == 50


def test_the_results_hold_every_query(make_split: MakeSplit) -> None:
    found = evaluate(build_head("meanP", DIM), *make_split(), View(2), "authors")
    kept = found.as_dict()
    assert kept["queries"]["t2v"][3] == {
        "caption": "c03",
        "clip": "clip03",
        "text": "about clip03",
        "rank": 1.0,
        "ties": 1,
        "first": "clip03",
        "twin": "clip02",
        "before_twin": 1.0,
    }
    assert kept["queries"]["v2t"][5] == {"clip": "clip05", "rank": 1.0, "ties": 1}
    assert len(kept["queries"]["v2t"]) == 8
    assert kept["authors"]["t2v"]["r1"] == 100
    assert kept["view"] == {
        "max_frames": 2, "sampling": "uniform", "order": "ordinary", "seed": 0, "fps": None,
    }  # fmt: skip
    assert kept["videos"]["clip05"] == ["clip05.mp4", 0.0, None]


def test_a_query_tells_which_clip_came_first_and_where_its_own_stands(
    make_split: MakeSplit,
) -> None:
    clips, captions = make_split(text=random(8, 1, DIM)[[1, 0, 2, 3, 4, 5, 6, 7], 0])
    kept = evaluate(build_head("meanP", DIM), clips, captions).as_dict()["queries"]["t2v"]
    assert [row["first"] for row in kept[:3]] == ["clip01", "clip00", "clip02"]
    assert kept[0]["rank"] > 1
    assert [row["before_twin"] for row in kept[:3]] == [0.0, 0.0, 1.0]


def test_no_caption_with_a_clip_is_an_error(make_split: MakeSplit) -> None:
    clips, captions = make_split()
    captions.clip_ids = tuple("other" for _ in range(8))
    with pytest.raises(C4CError, match="nothing to evaluate"):
        evaluate(build_head("meanP", DIM), clips, captions)


def test_a_best_epoch_chosen_on_the_same_split_is_said(make_split: MakeSplit) -> None:
    split = make_split()
    source = {"split": "test", "chosen_on": "test"}
    found = evaluate(build_head("meanP", DIM), *split, source=source)
    assert "chosen on this very split" in found.notes[0]
    assert found.as_dict()["source"] == source
    other = evaluate(build_head("meanP", DIM), *split, source={**source, "chosen_on": "val"})
    assert other.notes == ()


def test_an_unknown_way_to_count_ties_is_refused(make_split: MakeSplit) -> None:
    with pytest.raises(C4CError, match="Known: expected, authors"):
        evaluate(build_head("meanP", DIM), *make_split(), ties="best")


def test_every_key_of_the_results_file_is_documented(make_split: MakeSplit) -> None:
    text = (Path(__file__).parents[2] / "docs/reference/results-format.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))
    source = dict.fromkeys(
        ("dataset", "split", "cache", "checkpoint", "model", "weights", "chosen_on"), "x"
    )
    leak = Leak(8, Overlap(1, 1, 1, 1, "clip0"), unknown="why")
    found = evaluate(
        build_head("meanP", DIM), *make_split(), ties="authors", source=source, leak=leak
    ).as_dict()
    assert f"schema {SCHEMA}" in text
    assert found["schema"] == SCHEMA
    found["videos"] = {}  # its keys are clips

    def keys(value: Any) -> set[str]:
        inner = value.values() if isinstance(value, dict) else value
        inside = [keys(one) for one in inner if isinstance(one, dict | list)]
        return set().union(value if isinstance(value, dict) else (), *inside)

    assert keys(found) - documented == set()


@pytest.mark.parametrize("schema", READABLE)
def test_results_of_every_known_schema_are_read(schema: int, make_split: MakeSplit) -> None:
    found = evaluate(build_head("meanP", DIM), *make_split()).as_dict()
    found["schema"] = schema
    if schema == 1:
        del found["leak"]
    assert len(parse_results(found, Path("r.json")).queries) == 8
    with pytest.raises(C4CError, match="has schema 3, this c4c reads up to 2"):
        parse_results({**found, "schema": 3}, Path("r.json"))
