"""Expected ranks under ties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c4c.core.errors import C4CError
from c4c.kernels import ground_truth_ranks
from c4c.kernels.ranks import pairs as module
from c4c.kernels.ranks.naive import ground_truth_ranks_reference


def test_by_hand():
    query = torch.tensor([[1.0]])
    gallery = torch.tensor([[5.0], [3.0], [3.0], [1.0]])
    assert ground_truth_ranks(query, gallery, [0]).tolist() == [1.0]
    assert ground_truth_ranks(query, gallery, [1]).tolist() == [2.5]
    assert ground_truth_ranks(query, gallery, [3]).tolist() == [4.0]
    assert ground_truth_ranks(query, gallery, [{1, 2}]).tolist() == [2.0]
    assert ground_truth_ranks(query, gallery, [{1, 3}]).tolist() == [2.5]


@settings(max_examples=settings.default.max_examples // 2)
@given(
    q=st.integers(1, 9),
    n=st.integers(1, 60),
    d=st.integers(1, 20),
    whole=st.booleans(),
    seed=st.integers(0, 999),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.float64]),
)
def test_equals_a_sort_in_float64(q, n, d, whole, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(q, d, generator=generator)
    gallery = torch.randn(n, d, generator=generator)
    if whole:  # Many exact ties.
        queries, gallery = queries.round(), gallery.round()
    queries, gallery = queries.to(dtype), gallery.to(dtype)
    targets = torch.randint(0, n, (q,), generator=generator)
    sets = [{int(t), int(seed * t) % n} for t in targets]
    for right in (targets, sets):
        expected = ground_truth_ranks_reference(queries, gallery, right)
        assert ground_truth_ranks(queries, gallery, right).equal(expected)


def test_equal_rows_tie_wherever_they_stand(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 64)
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(301, 37, generator=generator)
    gallery[[3, 150, 300]] = gallery[3].clone()
    queries = torch.randn(5, 37, generator=generator)
    ranks = [ground_truth_ranks(queries, gallery, [row] * 5) for row in (3, 150, 300)]
    assert ranks[0].equal(ranks[1]) and ranks[0].equal(ranks[2])
    assert ranks[0].equal(ground_truth_ranks_reference(queries, gallery, [3] * 5))


def test_errors_name_the_query():
    one = torch.ones(2, 3)
    with pytest.raises(C4CError, match="query 1 has no right clip"):
        ground_truth_ranks(one, one, [{0}, set()])
    with pytest.raises(C4CError, match="query 0 has target 7"):
        ground_truth_ranks(one, one, [7, 0])
    with pytest.raises(C4CError, match="numbers of queries"):
        ground_truth_ranks(one, one, [0])
    with pytest.raises(C4CError, match="NaN"):
        ground_truth_ranks(one, one * torch.nan, [0, 1])
