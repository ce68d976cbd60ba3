"""Top-k: the same answer from every kind of gallery, whatever the data."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c4c.errors import C4CError
from c4c.kernels import GalleryIndex, topk_similarity
from c4c.kernels import index as index_module
from c4c.kernels import topk as topk_module
from c4c.kernels.topk import topk_similarity_reference


@pytest.fixture(autouse=True)
def int8_everywhere(monkeypatch):
    # The bound must be right on machines where it would not pay, too.
    monkeypatch.setattr(index_module, "fast_int8", lambda: True)
    monkeypatch.setattr(index_module, "SMALLEST", 64)


def assert_same_up_to_ties(queries, gallery, scores, indices):
    """The k best of float64, up to swaps of scores within 1e-6 (of the largest score)."""
    exact = queries.double() @ gallery.double().T
    size = exact.abs().max().clamp(min=1.0)
    k = indices.shape[1]
    expected = exact.topk(k, 1).values
    assert (exact.gather(1, indices) - expected).abs().max() <= 1e-6 * size
    assert (scores.double() - expected).abs().max() <= 1e-5 * size
    assert all(len(set(row)) == k for row in indices.tolist())


def data(kind, n=3000, dim=48, seed=0):
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, dim, generator=g)
    if kind == "clustered":
        rows = rows[torch.randint(0, 20, (n,), generator=g)] + 0.01 * rows
    elif kind == "common direction":
        rows = 0.2 * rows + 5.0
    elif kind == "duplicates":
        rows = rows[torch.randint(0, n // 20, (n,), generator=g)]
    elif kind == "unnormalised":
        rows = rows * torch.exp(4 * torch.randn(n, 1, generator=g))
    elif kind == "one point":
        rows = rows[:1].expand(n, dim).contiguous()
    elif kind == "near a point":  # Some groups have scales far below the others.
        rows[200:] = 3.0 + 1e-5 * rows[200:]
    elif kind == "zeros":
        rows = torch.zeros(n, dim)
    elif kind == "few directions":
        rows = rows.round().clamp(-1, 1)
    return rows


KINDS = [
    "random", "clustered", "common direction", "duplicates",
    "unnormalised", "one point", "near a point", "zeros", "few directions",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("indexed", [False, True])
def test_finds_what_brute_force_finds(kind, k, indexed):
    gallery = data(kind)
    queries = data("random", n=20, seed=1)
    scores, indices = topk_similarity(queries, GalleryIndex(gallery) if indexed else gallery, k)
    assert_same_up_to_ties(queries, gallery, scores, indices)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 900),
    q=st.integers(1, 6),
    d=st.integers(1, 40),
    k=st.integers(1, 40),
    indexed=st.booleans(),
    seed=st.integers(0, 999),
)
def test_whole_numbers_are_exact_with_ties_by_lower_index(n, q, d, k, indexed, seed):
    g = torch.Generator().manual_seed(seed)
    gallery = torch.randn(n, d, generator=g).round()
    queries = torch.randn(q, d, generator=g).round()
    found = topk_similarity(queries, GalleryIndex(gallery) if indexed else gallery, k)
    scores, indices = topk_similarity_reference(queries, gallery, k)
    real = min(k, n)
    assert found[1][:, :real].equal(indices)
    assert found[0][:, :real].equal(scores)
    assert (found[1][:, real:] == -1).all() and (found[0][:, real:] == -torch.inf).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("indexed", [False, True])
def test_other_dtypes_are_compared_in_float32(dtype, indexed):
    gallery, queries = data("random").to(dtype), data("random", n=5, seed=1).to(dtype)
    found = topk_similarity(queries, GalleryIndex(gallery) if indexed else gallery, 10)
    assert_same_up_to_ties(queries, gallery, *found)


def test_rows_of_width_one():
    gallery = torch.arange(700.0).remainder(97).reshape(-1, 1)
    queries = torch.tensor([[1.0], [-1.0]])
    found = topk_similarity(queries, GalleryIndex(gallery), 9)
    assert found[1].equal(topk_similarity_reference(queries, gallery, 9)[1])


def test_memory_maps_streams_and_strides_agree(tmp_path):
    gallery, queries = data("random").half(), data("random", n=5, seed=1)
    path = tmp_path / "gallery.npy"
    np.save(path, gallery.numpy())
    mapped = np.load(path, mmap_mode="r")
    expected = topk_similarity(queries, gallery, 7)[1]
    stream = (gallery[low : low + 701] for low in range(0, len(gallery), 701))
    strided = torch.empty(len(gallery), 2 * gallery.shape[1]).half()[:, ::2].copy_(gallery)
    for same in (mapped, stream, strided, GalleryIndex(mapped), GalleryIndex(strided)):
        assert topk_similarity(queries, same, 7)[1].equal(expected)


def test_blocks_do_not_show(monkeypatch):
    gallery, queries = data("few directions"), data("few directions", n=30, seed=1)
    expected = topk_similarity(queries, gallery, 20)
    monkeypatch.setattr(topk_module, "BLOCK_ROWS", 96)
    monkeypatch.setattr(topk_module, "BLOCK_BYTES", 1)
    monkeypatch.setattr(index_module, "QUERIES", 7)
    monkeypatch.setattr(index_module, "SCORES", 1000)
    for same in (gallery, GalleryIndex(gallery)):
        scores, indices = topk_similarity(queries, same, 20)
        assert scores.equal(expected[0]) and indices.equal(expected[1])


@pytest.mark.parametrize(
    "limits",
    [
        {"MOST_PAIRS": -1.0},  # No block is done by its bounds.
        {"LATER": -1, "MOST_AGAIN": -1.0},  # What waited is done again, at every block.
        {"LATER": 50, "MOST_AGAIN": 1.0},  # It is scored, at every block.
        {"EARLY": 0},  # No threshold to begin with.
        {"EARLY": 10**9},  # The best groups are scored first in every block.
    ],
    ids=lambda limits: " ".join(limits),
)
@pytest.mark.parametrize("kind", ["few directions", "duplicates", "common direction"])
def test_every_way_through_a_block_gives_the_same_rows(monkeypatch, limits, kind):
    gallery, queries = data(kind).round(), data("few directions", n=30, seed=1)
    expected = topk_similarity_reference(queries, gallery, 9)
    monkeypatch.setattr(index_module, "SCORES", 30 * 320)
    for name, value in limits.items():
        monkeypatch.setattr(index_module, name, value)
    scores, indices = topk_similarity(queries, GalleryIndex(gallery), 9)
    assert scores.equal(expected[0]) and indices.equal(expected[1])


def test_the_largest_k():
    gallery, queries = data("few directions", n=5000), data("few directions", n=3, seed=1)
    expected = topk_similarity_reference(queries, gallery, 1024)
    for same in (gallery, GalleryIndex(gallery)):
        scores, indices = topk_similarity(queries, same, 1024)
        assert scores.equal(expected[0]) and indices.equal(expected[1])


def test_the_bound_prunes_ordinary_data(monkeypatch):
    rescored = []
    inner = GalleryIndex._score_pairs

    def counting(self, queries, pairs):
        rescored.append(len(pairs.who))
        return inner(self, queries, pairs)

    monkeypatch.setattr(GalleryIndex, "_score_pairs", counting)
    gallery = data("random", n=20000, dim=128)
    topk_similarity(data("random", n=16, dim=128, seed=1), GalleryIndex(gallery), 10)
    assert 0 < sum(rescored) < 0.02 * 16 * 20000


def test_the_index_is_a_quarter_of_the_gallery():
    index = GalleryIndex(data("random", n=20000, dim=512))
    assert index.nbytes <= 0.26 * 4 * 20000 * 512


@pytest.mark.parametrize("indexed", [False, True])
def test_rows_that_are_not_finite_are_named(indexed):
    gallery = data("random")
    gallery[1234, 5] = torch.nan
    with pytest.raises(C4CError, match="gallery row 1234 "):
        topk_similarity(gallery[:3], GalleryIndex(gallery) if indexed else gallery, 5)
    with pytest.raises(C4CError, match="query 1 "):
        topk_similarity(gallery[1233:1236], data("random"), 5)


def test_errors_say_what_was_expected():
    ones = torch.ones(4, 3)
    for k in (0, 1025):
        with pytest.raises(C4CError, match="1 to 1024"):
            topk_similarity(ones, ones, k)
    for gallery in (torch.ones(4, 5), GalleryIndex(torch.ones(4, 5)), [torch.ones(4, 5)]):
        with pytest.raises(C4CError, match="widths"):
            topk_similarity(ones, gallery, 1)
    with pytest.raises(C4CError, match="dtype"):
        GalleryIndex(torch.ones(4, 5, dtype=torch.int64))


def test_without_queries_or_without_rows():
    ones = torch.ones(4, 3)
    assert topk_similarity(ones[:0], ones, 2)[1].shape == (0, 2)
    assert topk_similarity(ones[:0], GalleryIndex(data("random", dim=3)), 2)[1].shape == (0, 2)
    assert topk_similarity(ones, ones[:0], 2)[1].tolist() == [[-1, -1]] * 4
