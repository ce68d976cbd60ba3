"""Ranks of a split: views of frames, blocks, shortlists and banks, against their definitions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from c4c.cache.open import ClipFeatures
from c4c.core.errors import C4CError
from c4c.core.sampling import View
from c4c.heads import HEADS, build_head
from c4c.heads.base import Head
from c4c.kernels.ranks import pairs as ranks_module
from c4c.retrieval import ranking as ranking_module
from c4c.retrieval import rerank as rerank_module
from c4c.retrieval.evaluate import evaluate
from c4c.retrieval.metrics import rank_targets, retrieval_ranks
from c4c.retrieval.ranking import Rerank, clip_vectors, vector_ranks

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


def seeded(name: str, **options: int) -> Head:
    torch.manual_seed(0)
    return build_head(name, DIM, layers=1, **options).eval()


def ranks(found: Any) -> dict[str, tuple[list[int], list[int]]]:
    return {way: (own.ahead.tolist(), own.ties.tolist()) for way, own in found.ranks.items()}


def test_a_full_shortlist_ranks_as_all_pairs_do(make_split: MakeSplit) -> None:
    head = seeded("tightTransf", max_frames=3)
    split = make_split(random(8, 3, DIM), random(8, DIM, seed=1))
    whole, short = evaluate(head, *split), evaluate(head, *split, shortlist=8)
    assert ranks(whole) == ranks(short)
    assert "candidates of meanP" in short.notes[0]
    assert whole.notes == ()


def test_a_short_shortlist_reorders_the_best_of_mean_pooling_alone(make_split: MakeSplit) -> None:
    """And what is not on it stays behind, in the order of mean pooling."""
    head = seeded("tightTransf", max_frames=3)
    clips, captions = make_split(random(9, 3, DIM), random(9, DIM, seed=1))
    text = captions.batch(range(9))
    with torch.inference_mode():
        fine = head(clips.batch(range(9)), text).numpy()
    coarse = units(text.numpy().astype(np.float64)) @ mean_vectors(clips).T
    expected = {}
    for way, first, second in (("t2v", coarse, fine), ("v2t", coarse.T, fine.T)):
        orders = []
        for rough, exact in zip(first, second, strict=True):
            few, rest = np.split(np.argsort(-rough), [3])
            orders.append([*few[np.argsort(-exact[few])], *rest])
        expected[way] = [order.index(row) for row, order in enumerate(orders)]
    found = evaluate(head, clips, captions, shortlist=3)
    assert {way: own.ahead.tolist() for way, own in found.ranks.items()} == expected
    assert expected["t2v"] != evaluate(head, clips, captions).ranks["t2v"].ahead.tolist()


@pytest.mark.parametrize("several", [False, True])
def test_ranks_in_blocks_equal_those_of_the_matrix(
    several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerank_module, "BLOCK", 60)
    monkeypatch.setattr(ranks_module, "BLOCK", 60)
    generator = np.random.default_rng(0)
    # Small whole numbers: exact in every precision, and full of ties. The last two clips have
    # no caption, and captions do not stand in the order of their clips.
    own = generator.permutation(np.arange(24 if several else 12) % 12)
    text = generator.integers(-2, 3, (len(own), 4)).astype(np.float32)
    video = generator.integers(-2, 3, (14, 4)).astype(np.float32)
    expected = retrieval_ranks(text @ video.T, own)
    found = vector_ranks(torch.from_numpy(text), torch.from_numpy(video), own)
    for way in ("t2v", "v2t"):
        assert found[way].ahead.tolist() == expected[way].ahead.tolist()
        assert found[way].ties.tolist() == expected[way].ties.tolist()


@pytest.mark.parametrize("name", list(HEADS))
def test_blocks_of_clips_do_not_show(
    name: str, make_split: MakeSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, split = seeded(name), make_split(random(11, 4, DIM), random(11, DIM, seed=1))
    whole = evaluate(head, *split)
    monkeypatch.setattr(ranking_module, "LOOSE_CLIPS", 4)
    monkeypatch.setattr(ranking_module, "TIGHT_CLIPS", 4)
    assert ranks(evaluate(head, *split)) == ranks(whole)


@pytest.mark.parametrize("name", ["seqTransf", "tightTransf"])
def test_a_head_sees_the_frames_that_the_view_names(name: str, make_split: MakeSplit) -> None:
    frames, text = random(10, 6, DIM), random(10, DIM, seed=1)
    head, split = seeded(name), make_split(frames, text)
    seen = {
        View(3, "head"): frames[:, :3],
        View(3, "tail"): frames[:, 3:],
        View(3, "uniform"): frames[:, [0, 2, 5]],
        View(None, "uniform", "reverse"): frames[:, ::-1],
        View(2, "tail", "reverse"): frames[:, [5, 4]],
    }
    found = {view: ranks(evaluate(head, *split, view)) for view in seen}
    for view, left in seen.items():
        assert found[view] == ranks(evaluate(head, *make_split(left, text)))
    assert len({str(one) for one in found.values()}) == len(seen)
    if head.loose:
        random_views = [View(order="random", seed=seed) for seed in (0, 0, 1)]
        first, again, other = (clip_vectors(head, split[0], view) for view in random_views)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", ["qbnorm", "dual-softmax"])
def test_re_ranked_figures_are_labelled_and_undo_a_hub(kind: str, make_split: MakeSplit) -> None:
    """Captions share a direction, and clip 0 lies in it: it comes first for all of them."""
    common = 2.5 * random(1, DIM, seed=9)
    features = random(12, 1, DIM)
    words = [features[:, 0] + common + random(12, DIM, seed=seed) for seed in (1, 2)]
    features[0] = common + 0.5 * features[0]
    split, other = make_split(features, words[0]), make_split(features, words[1])
    bank = (other[0], other[1].batch(range(12))) if kind == "qbnorm" else (None, None)
    plain = evaluate(build_head("meanP", DIM), *split)
    found = evaluate(build_head("meanP", DIM), *split, rerank=Rerank(kind, *bank))
    assert plain.metrics["t2v"].mean_rank > 1.9
    assert found.metrics["t2v"].mean_rank < 1.5
    assert "re-ranked" in found.notes[0]
    assert plain.notes == ()


@pytest.mark.parametrize("kind", ["qbnorm", "dual-softmax"])
def test_each_direction_is_re_ranked_by_its_own_bank_of_queries(
    kind: str, make_split: MakeSplit
) -> None:
    """QB-Norm: captions of the bank for clips, clips of the bank for captions, none of the test."""
    common = random(1, DIM, seed=9)
    clips, captions = make_split(random(12, 3, DIM) + common, random(20, DIM, seed=1) + common)
    bank_clips, bank_captions = make_split(
        random(9, 2, DIM, seed=2) + common, random(15, DIM, seed=3) + common
    )
    own, head = np.arange(20) % 12, build_head("meanP", DIM)
    video, text = mean_vectors(clips), units(captions.features.astype(np.float64))
    asking = {"t2v": text, "v2t": video}
    given: tuple[Any, Any] = (None, None)
    if kind == "qbnorm":
        asking = {
            "t2v": units(bank_captions.features.astype(np.float64)),
            "v2t": mean_vectors(bank_clips),
        }
        given = bank_clips, bank_captions.batch(range(15))
    found = evaluate(head, clips, captions, rerank=Rerank(kind, *given))
    t2v = rank_targets(re_weighted(kind, text, asking["t2v"], video), own)
    by_caption = re_weighted(kind, video, asking["v2t"], text)
    groups = np.stack([by_caption[:, own == clip].max(1) for clip in range(12)], 1)
    v2t = rank_targets(groups, np.arange(12))
    assert found.ranks["t2v"].ahead.tolist() == t2v.ahead.tolist()
    assert found.ranks["v2t"].ahead.tolist() == v2t.ahead.tolist()
    plain = evaluate(head, clips, captions)
    for way in ("t2v", "v2t"):
        assert found.ranks[way].ahead.tolist() != plain.ranks[way].ahead.tolist()


def re_weighted(
    kind: str, queries: np.ndarray, bank: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
    """Scores by the definitions: dual softmax, and QB-Norm's dynamic inverted softmax."""
    scores, banked = queries @ gallery.T, bank @ gallery.T
    if kind == "dual-softmax":
        return np.asarray(scores * np.exp(100 * scores) / np.exp(100 * banked).sum(0))
    hubs = np.isin(np.arange(len(gallery)), banked.argmax(1))
    inverted = np.exp(20 * scores) / np.exp(20 * banked).sum(0)
    return np.where(hubs[scores.argmax(1)][:, None], inverted, scores)


def test_a_tight_head_is_not_re_ranked(make_split: MakeSplit) -> None:
    head = build_head("tightTransf", DIM, layers=1, max_frames=3)
    with pytest.raises(C4CError, match="vector a clip"):
        evaluate(head, *make_split(), rerank=Rerank("dual-softmax"))
