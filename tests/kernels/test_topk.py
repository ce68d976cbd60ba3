"""Top-k: the same answer from every kind of gallery, whatever the data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c4c.core.errors import C4CError
from c4c.kernels import GalleryIndex, native, topk_similarity
from c4c.kernels.topk import blocks as blocks_module
from c4c.kernels.topk import index as index_module
from c4c.kernels.topk import lanes as lanes_module
from c4c.kernels.topk import op as op_module
from c4c.kernels.topk import parts as parts_module
from c4c.kernels.topk.blocks import score_block
from c4c.kernels.topk.naive import topk_similarity_reference

# What this machine has for search, and 0, the path in torch.
LEVELS = [*(level for level in native.LEVELS if native.runs("search", level)), 0]


@pytest.fixture(autouse=True)
def small_indexes_too(monkeypatch):
    monkeypatch.setattr(index_module, "SMALLEST", 0)


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    monkeypatch.setattr(native, "levels", lambda: (request.param, request.param))
    return request.param


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
def test_finds_what_brute_force_finds(kind, k):
    gallery, queries = data(kind), data("random", n=20, seed=1)
    assert_same_up_to_ties(queries, gallery, *topk_similarity(queries, gallery, k))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("count", [1, 3, 61])
def test_an_index_finds_what_brute_force_finds(kind, k, count, level):
    gallery, queries = data(kind), data("random", n=count, seed=1)
    index = GalleryIndex(gallery)
    assert (index.codes is not None) == (level > 0)
    assert_same_up_to_ties(queries, gallery, *topk_similarity(queries, index, k))


@given(
    n=st.integers(1, 900),
    q=st.integers(1, 70),
    d=st.integers(1, 70),
    k=st.integers(1, 40),
    how=st.sampled_from([None, *LEVELS]),
    seed=st.integers(0, 999),
)
def test_whole_numbers_are_exact_with_ties_by_lower_index(n, q, d, k, how, seed):
    g = torch.Generator().manual_seed(seed)
    gallery = torch.randn(n, d, generator=g).round()
    queries = torch.randn(q, d, generator=g).round()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "SMALLEST", 0)
        patch.setattr(native, "levels", lambda: (how, how))
        found = topk_similarity(queries, gallery if how is None else GalleryIndex(gallery), k)
    scores, indices = topk_similarity_reference(queries, gallery, k)
    real = min(k, n)
    assert found[1][:, :real].equal(indices)
    assert found[0][:, :real].equal(scores)
    assert (found[1][:, real:] == -1).all() and (found[0][:, real:] == -torch.inf).all()


@given(
    sizes=st.lists(st.integers(1, 400), min_size=2, max_size=6),
    plain=st.integers(0, 200),
    q=st.sampled_from([1, 3, 50, 70]),
    k=st.integers(1, 40),
    how=st.sampled_from(LEVELS),
    spread=st.sampled_from([1, 100]),
    seed=st.integers(0, 999),
)
def test_several_indexes_are_searched_as_one(sizes, plain, q, k, how, spread, seed):
    """What one of them has found rules out rows of the next, and ties stay by lower index."""
    g = torch.Generator().manual_seed(seed)
    gallery = torch.randint(-3 * spread, 3 * spread, (sum(sizes), 20), generator=g).float()
    queries = torch.randint(-3, 4, (q, 20), generator=g).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "SMALLEST", plain)  # smaller ones have no codes
        patch.setattr(native, "levels", lambda: (how, how))
        patch.setattr(torch, "get_num_threads", lambda: 3)
        parts = [GalleryIndex(part) for part in gallery.split(sizes)]
        scores, indices = topk_similarity(queries, parts, k)
    expected = topk_similarity_reference(queries, gallery, k)
    real = min(k, len(gallery))
    assert indices[:, :real].equal(expected[1]) and scores[:, :real].equal(expected[0])
    assert (indices[:, real:] == -1).all()


@pytest.mark.parametrize("kind", ["few directions", "one point", "common direction"])
def test_later_indexes_are_pruned_by_what_earlier_ones_hold(kind, level, monkeypatch):
    monkeypatch.setattr(lanes_module, "PAIRS", 32 * 40)
    gallery, queries = data(kind, n=6000).round(), data("few directions", n=40, seed=1).round()
    expected = topk_similarity_reference(queries, gallery, 9)
    for some in (queries, queries[:3]):
        found = topk_similarity(some, [GalleryIndex(part) for part in gallery.split(1100)], 9)
        assert found[0].equal(expected[0][: len(some)])
        assert found[1].equal(expected[1][: len(some)])


def test_indexes_of_other_widths_are_refused():
    parts = [GalleryIndex(torch.ones(9, 3)), GalleryIndex(torch.ones(9, 4))]
    with pytest.raises(C4CError, match="widths differ .3 and 4"):
        topk_similarity(torch.ones(1, 3), parts, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_compared_in_float32(dtype, level):
    gallery, queries = data("random").to(dtype), data("random", n=5, seed=1).to(dtype)
    for same in (gallery, GalleryIndex(gallery)):
        assert_same_up_to_ties(queries, gallery, *topk_similarity(queries, same, 10))


def test_products_of_the_largest_codes_and_words_do_not_saturate(level):
    """Rows and queries of ones and minus ones: every code and every word is an extreme."""
    signs = torch.ones(3000, 64)
    signs[torch.rand(3000, 64, generator=torch.Generator().manual_seed(2)) < 0.5] = -1.0
    signs[::100] = 1.0
    queries = torch.cat([signs[:9], -torch.ones(3, 64)])
    found = topk_similarity(queries, GalleryIndex(signs), 40)
    expected = topk_similarity_reference(queries, signs, 40)
    assert found[0].equal(expected[0]) and found[1].equal(expected[1])


def test_rows_of_width_one(level):
    gallery = torch.arange(700.0).remainder(97).reshape(-1, 1)
    queries = torch.tensor([[1.0], [-1.0]])
    found = topk_similarity(queries, GalleryIndex(gallery), 9)
    assert found[1].equal(topk_similarity_reference(queries, gallery, 9)[1])


@pytest.mark.parametrize("size", [1e-35, 1e-29, 1e-25, 1e-18, 1e18, 3e19])
def test_very_small_and_very_large_rows(size, level):
    gallery, queries = data("random").double() * size, data("random", n=5, seed=1)
    found = topk_similarity(queries, GalleryIndex(gallery.float()), 10)
    narrow = gallery.float().double() / size
    assert_same_up_to_ties(queries, narrow, found[0].double() / size, found[1])


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


@pytest.mark.parametrize("few", [0, 100], ids=["threads share queries", "threads share rows"])
def test_blocks_do_not_show(monkeypatch, few, level):
    gallery, queries = data("few directions"), data("few directions", n=30, seed=1)
    expected = topk_similarity_reference(queries, gallery, 20)
    monkeypatch.setattr(blocks_module, "BLOCK_ROWS", 96)
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 1)
    monkeypatch.setattr(parts_module, "QUERIES", 7)
    monkeypatch.setattr(lanes_module, "PAIRS", 1000)
    monkeypatch.setattr(parts_module, "FEW", few)
    for same in (gallery, GalleryIndex(gallery)):
        scores, indices = topk_similarity(queries, same, 20)
        assert scores.equal(expected[0]) and indices.equal(expected[1])


@pytest.mark.parametrize("pairs", [40_000, 1 << 26])
@pytest.mark.parametrize("kind", ["one point", "duplicates", "few directions"])
def test_where_the_bounds_do_not_prune_rows_are_done_in_float32(monkeypatch, pairs, kind, level):
    done = []

    def counting(best, queries, block, first):
        done.append(len(block))
        score_block(best, queries, block, first)

    monkeypatch.setattr(lanes_module, "score_block", counting)
    monkeypatch.setattr(lanes_module, "PAIRS", pairs)
    gallery, queries = data(kind, n=9000).round(), data("few directions", n=30, seed=1)
    expected = topk_similarity_reference(queries, gallery, 9)
    scores, indices = topk_similarity(queries, GalleryIndex(gallery), 9)
    assert scores.equal(expected[0]) and indices.equal(expected[1])
    if level:
        assert (sum(done) > 0) == (kind == "one point")


def test_the_bounds_are_tried_again_after_rows_they_could_not_prune(monkeypatch):
    if LEVELS == [0]:
        pytest.skip("no compiled search on this machine: c4c doctor says why")
    done = []

    def counting(best, queries, block, first):
        done.append(len(block))
        score_block(best, queries, block, first)

    monkeypatch.setattr(lanes_module, "score_block", counting)
    monkeypatch.setattr(lanes_module, "PAIRS", 64 * 320)
    gallery, queries = data("random", n=20000), data("random", n=128, seed=1)
    gallery[:3000] = gallery[0]
    found = topk_similarity(queries, GalleryIndex(gallery), 10)
    assert_same_up_to_ties(queries, gallery, *found)
    # For each of two halves of the queries: at most twice what they could not prune, and a little.
    assert 0 < sum(done) < 2 * 2 * 4000


@pytest.mark.parametrize("count", [5, 60, 600])
def test_what_surrounds_a_call_does_not_matter(count, level):
    """Autocast, default devices and types, gradients: searches are in float32 on the CPU."""
    gallery, queries = data("random", n=5000), data("random", n=count, seed=1)
    expected = topk_similarity_reference(queries, gallery, 5)[1]
    with torch.autocast("cpu", torch.bfloat16):
        assert topk_similarity(queries, GalleryIndex(gallery), 5)[1].equal(expected)
        assert topk_similarity(queries, gallery, 5)[1].equal(expected)
    index = GalleryIndex(gallery)
    for asked in (queries.clone().requires_grad_(), queries):
        assert topk_similarity(asked, index, 5)[1].equal(expected)
        assert topk_similarity(asked, gallery, 5)[1].equal(expected)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert topk_similarity(queries, GalleryIndex(gallery), 5)[1].equal(expected)
    finally:
        torch.set_default_dtype(before)


def test_the_largest_k(level):
    gallery, queries = data("few directions", n=5000), data("few directions", n=3, seed=1)
    expected = topk_similarity_reference(queries, gallery, 1024)
    for same in (gallery, GalleryIndex(gallery)):
        scores, indices = topk_similarity(queries, same, 1024)
        assert scores.equal(expected[0]) and indices.equal(expected[1])


def test_the_bound_prunes_ordinary_data(monkeypatch):
    if LEVELS == [0]:
        pytest.skip("no compiled search on this machine: c4c doctor says why")
    scored = {}
    inner = native.together

    def counting(what, chains):
        stops = inner(what, chains)
        if what == "search":
            states = (task.arguments for chain in chains for task in chain)
            scored.update((id(state), state.scored) for state in states)
        return stops

    monkeypatch.setattr(native, "together", counting)
    gallery = data("random", n=20000, dim=128)
    topk_similarity(data("random", n=64, dim=128, seed=1), GalleryIndex(gallery), 10)
    assert 0 < sum(scored.values()) < 0.02 * 64 * 20000


def test_many_queries_give_what_each_of_them_gives_alone(monkeypatch, level):
    gallery, queries = data("few directions"), data("few directions", n=40, seed=1)
    expected = topk_similarity(queries, gallery, 7)
    monkeypatch.setattr(op_module, "MANY", 40)
    built = []
    monkeypatch.setattr(GalleryIndex, "search", recorded(built, GalleryIndex.search))
    found = topk_similarity(queries, gallery, 7)
    assert found[0].equal(expected[0]) and found[1].equal(expected[1])
    assert [index.codes is not None for index in built] == [level > 0]


def recorded(calls, method):
    """The method, noting whose it is at each call."""

    def call(self, *arguments):
        calls.append(self)
        return method(self, *arguments)

    return call


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_show(threads, level):
    gallery, before = data("few directions"), torch.get_num_threads()
    for count in (1, 40, 200):
        queries = data("few directions", n=count, seed=1)
        expected = topk_similarity_reference(queries, gallery, 5)
        torch.set_num_threads(threads)
        try:
            scores, indices = topk_similarity(queries, GalleryIndex(gallery), 5)
        finally:
            torch.set_num_threads(before)
        assert scores.equal(expected[0]) and indices.equal(expected[1])


def test_the_index_is_a_quarter_of_the_gallery():
    if LEVELS == [0]:
        pytest.skip("no compiled search on this machine: c4c doctor says why")
    index = GalleryIndex(data("random", n=20000, dim=512))
    assert 0.25 <= index.nbytes / (4 * 20000 * 512) <= 0.26


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
