"""Re-ranking equals its definition, in blocks, with several captions a clip, and in search."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from c4c.kernels import topk_similarity
from c4c.retrieval import rerank
from c4c.retrieval.metrics import group_maximum, rank_targets
from c4c.retrieval.rerank import group_ranks, ranks_of, score_blocks, search_reranked, weigh


def vectors(rows: int, seed: int, common: float = 0.6) -> torch.Tensor:
    """Unit vectors with a common direction, as CLIP's have: some become hubs."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, 16, generator=generator) + common, dim=1)


def by_definition(kind: str, text: np.ndarray, bank: np.ndarray, video: np.ndarray) -> np.ndarray:
    """Dual softmax: score times its softmax over the queries. QB-Norm: exp(20 s) over the bank's
    sum, for queries whose first answer is the first answer of some query of the bank."""
    scores, banked = text @ video.T, bank @ video.T
    if kind == "dual-softmax":
        weights = np.exp(100 * banked)
        return scores * np.exp(100 * scores) / weights.sum(0)
    hubs = set(banked.argmax(1).tolist())
    found = np.exp(20 * scores) / np.exp(20 * banked).sum(0)
    plain = [row for row in range(len(scores)) if scores[row].argmax() not in hubs]
    found[plain] = scores[plain]
    return found


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("kind", ["qbnorm", "dual-softmax"])
def test_ranks_are_those_of_the_definition(
    kind: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerank, "BLOCK", rows * 30)  # so many rows a block
    text, video = vectors(40, 0), vectors(30, 1)
    bank = text if kind == "dual-softmax" else vectors(25, 2)
    own = np.arange(40) % 30
    weights = weigh(kind, bank, video)
    found = ranks_of(score_blocks(text, video, weights), own)
    want = rank_targets(
        by_definition(kind, *(one.double().numpy() for one in (text, bank, video))), own
    )
    assert found.ahead.tolist() == want.ahead.tolist()
    plain = rank_targets((text @ video.T).numpy(), own)
    assert found.ahead.tolist() != plain.ahead.tolist()


def test_groups_of_captions_are_ranked_by_their_re_weighted_best() -> None:
    text, video = vectors(40, 0), vectors(20, 1)
    own = np.arange(40) % 20
    weights = weigh("dual-softmax", video, text)
    found = group_ranks(score_blocks(video, text, weights), own)
    arrays = [one.double().numpy() for one in (video, video, text)]
    groups, _ = group_maximum(by_definition("dual-softmax", *arrays).T, own)
    want = rank_targets(groups.T, np.arange(20))
    assert found.ahead.tolist() == want.ahead.tolist()


def test_a_single_query_is_searched_as_the_definition_orders() -> None:
    text, video, bank = vectors(12, 3), vectors(30, 4), vectors(50, 5)
    weights = weigh("qbnorm", bank, video)
    arrays = [one.double().numpy() for one in (text, bank, video)]
    want = np.argsort(-by_definition("qbnorm", *arrays), axis=1)[:, :5]
    for row in range(12):
        found = search_reranked(text[row : row + 1], video, weights, 5, topk_similarity)
        assert found[0].tolist() == want[row].tolist()


def test_equal_clips_still_tie() -> None:
    text, video = vectors(9, 6), vectors(1, 7).expand(5, -1)
    found = ranks_of(
        score_blocks(text, video, weigh("dual-softmax", text, video)), np.zeros(9, int)
    )
    assert found.ties.tolist() == [5] * 9
