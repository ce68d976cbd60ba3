"""Evaluation: block-wise ranks equal the matrix's, twins, shortlists and what is said beside."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from c4c.errors import C4CError
from c4c.heads import build_head
from c4c.records import Caption, Clip, FeatureBatch, Leak, Overlap
from c4c.retrieval.compare import parse_results
from c4c.retrieval.evaluate import READABLE, SCHEMA, evaluate
from c4c.retrieval.metrics import retrieval_ranks
from c4c.retrieval.ranking import Rerank, View, vector_ranks

DIM = 64


class Clips(SimpleNamespace):
    """Clips in memory with the cache reader's interface."""

    features: torch.Tensor
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, indices: Sequence[int], *_: Any) -> FeatureBatch:
        found = self.features[torch.as_tensor(np.asarray(indices))]
        return FeatureBatch(found, torch.full((len(found),), found.shape[1]))


class Captions(SimpleNamespace):
    """Captions in memory with the cache reader's interface."""

    captions: tuple[Caption, ...]
    features: torch.Tensor

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(caption.clip_id for caption in self.captions)

    def __len__(self) -> int:
        return len(self.captions)

    def batch(self, indices: Sequence[int]) -> torch.Tensor:
        return self.features[torch.as_tensor(np.asarray(indices))]


def split(count: int = 8, gone: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """Clips whose captions point at them exactly."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(count, 1, DIM, generator=generator).repeat(1, 3, 1)
    ids = tuple(f"clip{place}" for place in range(count))
    twins = {ids[place]: ids[place ^ 1] for place in range(count)}
    clips = Clips(
        features=features, ids=ids, dim=DIM, twins=twins, missing=gone, failed=(),
        expected=count + len(gone), clips=tuple(Clip(name, f"{name}.mp4") for name in ids),
    )  # fmt: skip
    captions = tuple(Caption(f"c-{name}", name, f"about {name}") for name in (*ids, *gone))
    text = torch.cat([features[:, 0], torch.zeros(len(gone), DIM)])
    return clips, Captions(captions=captions, features=text)


def test_captions_that_point_at_their_clips_find_them() -> None:
    found = evaluate(build_head("meanP", DIM), *split())
    assert found.metrics["t2v"].r1 == found.metrics["v2t"].r1 == 100
    assert found.twins == 100
    assert found.notes == ()


def test_a_gallery_that_lacks_clips_is_said_beside_the_figures() -> None:
    found = evaluate(build_head("meanP", DIM), *split(gone=("lost",)))
    assert found.metrics["t2v"].gallery_expected == 9
    assert found.metrics["t2v"].queries == 8
    assert "not comparable: 1 of 9" in found.notes[0]
    assert "1 captions left out" in found.notes[1]


def test_equal_clips_tie_and_score_chance() -> None:
    clips, captions = split()
    clips.features = clips.features[:1].expand(8, -1, -1).contiguous()
    found = evaluate(build_head("meanP", DIM), clips, captions)
    assert found.metrics["t2v"].r1 == pytest.approx(100 / 8)
    assert found.twins == 50


def test_a_full_shortlist_ranks_as_all_pairs_do() -> None:
    torch.manual_seed(0)
    head = build_head("tightTransf", DIM, layers=1, max_frames=3)
    clips, captions = split()
    whole, short = evaluate(head, clips, captions), evaluate(head, clips, captions, shortlist=8)
    for way in ("t2v", "v2t"):
        assert whole.ranks[way].ahead.tolist() == short.ranks[way].ahead.tolist()
    assert "candidates of meanP" in short.notes[0]


@pytest.mark.parametrize("several", [False, True])
def test_ranks_in_blocks_equal_those_of_the_matrix(several: bool) -> None:
    generator = np.random.default_rng(0)
    # Small whole numbers: exact in every precision, and full of ties.
    text = generator.integers(-2, 3, (24 if several else 12, 4)).astype(np.float32)
    video = generator.integers(-2, 3, (12, 4)).astype(np.float32)
    own = np.arange(len(text)) % 12
    expected = retrieval_ranks(text @ video.T, own)
    found = vector_ranks(torch.from_numpy(text), torch.from_numpy(video), own)
    for way in ("t2v", "v2t"):
        assert found[way].ahead.tolist() == expected[way].ahead.tolist()
        assert found[way].ties.tolist() == expected[way].ties.tolist()
    assert found["t2v"].places.tolist() == expected["t2v"].places.tolist()


def test_the_results_hold_every_query() -> None:
    kept = evaluate(build_head("meanP", DIM), *split(), View(2), "authors").as_dict()
    assert kept["queries"]["t2v"][3] == {
        "caption": "c-clip3",
        "clip": "clip3",
        "text": "about clip3",
        "rank": 1.0,
        "ties": 1,
        "first": "clip3",
        "twin": "clip2",
        "before_twin": 1.0,
    }
    assert len(kept["queries"]["v2t"]) == 8
    assert kept["authors"]["t2v"]["r1"] == 100
    assert kept["view"]["max_frames"] == 2


def test_no_caption_with_a_clip_is_an_error() -> None:
    clips, captions = split()
    captions.captions = tuple(Caption("x", "other", "text") for _ in range(8))
    with pytest.raises(C4CError, match="nothing to evaluate"):
        evaluate(build_head("meanP", DIM), clips, captions)


def test_a_best_epoch_chosen_on_the_same_split_is_said() -> None:
    source = {"split": "test", "chosen_on": "test"}
    found = evaluate(build_head("meanP", DIM), *split(), source=source)
    assert "chosen on this very split" in found.notes[0]
    assert found.as_dict()["source"] == source
    other = evaluate(build_head("meanP", DIM), *split(), source={**source, "chosen_on": "val"})
    assert other.notes == ()


@pytest.mark.parametrize("kind", ["qbnorm", "dual-softmax"])
def test_re_ranked_figures_are_labelled_and_undo_a_hub(kind: str) -> None:
    clips, captions = split()
    hub = clips.features[:, :1].mean(0)
    clips.features[0] = 3 * hub / hub.norm() + 0.1 * clips.features[0]  # near to every caption
    plain = evaluate(build_head("meanP", DIM), clips, captions)
    bank = (clips, captions.features) if kind == "qbnorm" else (None, None)
    found = evaluate(build_head("meanP", DIM), clips, captions, rerank=Rerank(kind, *bank))
    assert "re-ranked" in found.notes[0]
    assert found.metrics["t2v"].mean_rank <= plain.metrics["t2v"].mean_rank


def test_a_tight_head_is_not_re_ranked() -> None:
    head = build_head("tightTransf", DIM, layers=1, max_frames=3)
    with pytest.raises(C4CError, match="vector a clip"):
        evaluate(head, *split(), rerank=Rerank("dual-softmax"))


def test_every_key_of_the_results_file_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/results-format.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))
    source = dict.fromkeys(
        ("dataset", "split", "cache", "checkpoint", "model", "weights", "chosen_on"), "x"
    )
    leak = Leak(8, Overlap(1, 1, 1, 1, "clip0"), unknown="why")
    found = evaluate(
        build_head("meanP", DIM), *split(), ties="authors", source=source, leak=leak
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
def test_results_of_every_known_schema_are_read(schema: int) -> None:
    found = evaluate(build_head("meanP", DIM), *split()).as_dict()
    found["schema"] = schema
    if schema == 1:
        del found["leak"]
    assert len(parse_results(found, Path("r.json")).queries) == 8
    with pytest.raises(C4CError, match="has schema 3, this c4c reads 1 and 2"):
        parse_results({**found, "schema": 3}, Path("r.json"))
