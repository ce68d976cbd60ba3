"""Cases for Triton's interpreter in which rounding, ties, sizes or layouts decide.

test_triton.py runs this file in a process of its own, like interpreted.py.
"""

import threading

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from c4c.core.errors import C4CError
from c4c.kernels import ground_truth_ranks, masked_mean_pool, topk_similarity
from c4c.kernels.ranks import triton as ranks_triton
from c4c.kernels.ranks.naive import ground_truth_ranks_reference
from c4c.kernels.topk import blocks, quick, stream
from c4c.kernels.topk import op as topk_op
from c4c.kernels.topk import triton as topk_triton
from c4c.kernels.topk.naive import topk_similarity_reference

EPSILON = torch.finfo(torch.float32).eps
HALVES = [torch.float16, torch.bfloat16]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_the_best(queries, gallery, found, k):
    """The k best of float64, up to swaps of scores that float32 cannot tell apart."""
    scores, indices = found
    exact = queries.double() @ gallery.double().T
    length = queries.double().norm(dim=1, keepdim=True) * gallery.double().norm(dim=1)
    slack = 2 * queries.shape[1] * EPSILON * length.gather(1, indices)
    expected = exact.topk(k, 1).values
    assert ((exact.gather(1, indices) - expected).abs() <= slack).all()
    assert ((scores - expected).abs() <= slack + 1e-30).all()
    assert all(len(set(row)) == k for row in indices.tolist())


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.c4c.topk_similarity.default:  # looked into
            with self:
                return topk_op._topk._init_fn(*args, **(kwargs or {}))
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else [found]:
            # Views and what is written into are no new memory.
            fresh = isinstance(one, torch.Tensor) and not any(
                isinstance(other, torch.Tensor)
                and other.untyped_storage().data_ptr() == one.untyped_storage().data_ptr()
                for other in args
            )
            if fresh:
                self.bytes = max(self.bytes, one.numel() * one.element_size())
        return found


@pytest.fixture(autouse=True)
def bounds_for_few_queries_too(monkeypatch):
    monkeypatch.setattr(topk_triton, "FEW", 0)


@pytest.fixture(params=["float32", "copied"])
def float32_rows(request, monkeypatch):
    """Rows in float32 as they are, and in a copy of halves, as for many queries."""
    monkeypatch.setattr(quick, "COPIED", 0 if request.param == "copied" else 1 << 30)
    return request.param


@pytest.fixture
def ways(monkeypatch):
    """How many queries were settled by scores of all rows."""
    settled = []
    inner = topk_triton._Search.from_all

    def counting(self, who):
        first = self.queries.storage_offset() // self.queries.stride(0)  # of these queries
        settled.extend((first + who).tolist())
        inner(self, who)

    monkeypatch.setattr(topk_triton._Search, "from_all", counting)
    return settled


def test_few_queries_read_the_gallery_once(monkeypatch):
    """The lengths of its rows, which bounds need, are not made; NaN is seen all the same."""
    monkeypatch.undo()
    monkeypatch.delattr(topk_triton, "Quick")
    monkeypatch.setattr(topk_triton, "SCORES", 4 * 100)  # rows come in blocks
    queries, gallery = randn(topk_triton.FEW, 24, seed=1), randn(350, 24)
    assert_the_best(queries, gallery, topk_similarity(queries, gallery, 7), 7)
    gallery[222, 3] = -torch.inf
    with pytest.raises(C4CError, match="gallery row 222 "):
        topk_similarity(queries, gallery, 7)


# Two dtypes: compared in float32, as on a CPU.


@pytest.mark.parametrize("dtype", HALVES)
def test_a_gallery_in_float32_is_not_rounded_to_the_queries_dtype(dtype):
    """Rounding to bfloat16 would give one id in twenty wrong."""
    queries, gallery = normalize(randn(9, 64, seed=1)).to(dtype), normalize(randn(2000, 64))
    found = topk_similarity(queries, gallery, 10)
    assert found[1].equal(topk_similarity_reference(queries, gallery, 10)[1])


def test_values_that_the_queries_dtype_does_not_hold_are_no_infinities():
    queries, gallery = randn(3, 16).half(), 1e5 * randn(400, 16, seed=1)
    assert_the_best(queries, gallery, topk_similarity(queries, gallery, 5), 5)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float16), (torch.bfloat16, torch.half)])
def test_no_copy_of_the_gallery_is_made(dtypes):
    queries, gallery = randn(2, 128, seed=1).to(dtypes[0]), randn(4000, 128).to(dtypes[1])
    with Largest() as largest:
        found = topk_similarity(queries, gallery, 3)
    assert_the_best(queries.float(), gallery.float(), found, 3)
    assert largest.bytes < gallery.numel() * gallery.element_size()


# Where bounds do not separate.


def unlucky(kind):
    rows = normalize(randn(4000, 32))
    queries = normalize(randn(4, 32, seed=1))
    if kind == "a query of zeros":
        queries[2] = 0
    elif kind == "near copies":
        rows[1000:3000] = queries[1] + 1e-7 * randn(2000, 32, seed=2)
    elif kind == "a common direction":
        rows = 1e-7 * rows + torch.ones(32)
    elif kind == "one long row":
        rows[3210] *= 1e5
        queries[queries @ rows[3210] > 0] *= -1  # among the worst
    return queries, rows


@pytest.mark.parametrize("kind", ["a query of zeros", "near copies", "a common direction"])
def test_where_bounds_do_not_separate_all_scores_are_made_a_block_at_a_time(
    kind, ways, float32_rows, monkeypatch
):
    monkeypatch.setattr(topk_triton, "SCORES", 4 * 700)
    monkeypatch.setattr(topk_triton, "MAXIMA", 2 * 125)
    monkeypatch.setattr(topk_triton, "LEAST", 2)  # queries at a time
    monkeypatch.setattr(quick, "AT_ONCE", 32 * 1000)
    queries, gallery = unlucky(kind)
    with Largest() as largest:
        found = topk_similarity(queries, gallery, 5)
    assert_the_best(queries, gallery, found, 5)
    if kind == "near copies":  # whether rounding separates them is the machine's
        assert set(ways) <= {1}
    elif float32_rows == "copied":
        assert set(ways) >= {"a query of zeros": {2}}.get(kind, {0, 1, 2, 3})
    else:
        assert set(ways) == {"a query of zeros": {2}}.get(kind, {0, 1, 2, 3})
    # Keys of the rows of four times as many groups as are wanted at least; never rows themselves.
    copy = gallery.nbytes // 2 if float32_rows == "copied" else 0
    assert largest.bytes <= max(copy, 8 * 2 * 4 * (5 + topk_triton.SPARE) * 32)
    if kind == "a query of zeros":
        assert found[1][2].tolist() == [0, 1, 2, 3, 4]


def test_one_long_row_widens_the_bound_of_its_own_group_alone(ways, float32_rows):
    queries, gallery = unlucky("one long row")
    assert_the_best(queries, gallery, topk_similarity(queries, gallery, 5), 5)
    assert ways == []


def test_rows_too_long_to_square_are_found_all_the_same(ways, float32_rows):
    queries, gallery = normalize(randn(3, 8)), 1e25 * normalize(randn(3000, 8, seed=1))
    assert_the_best(queries, gallery / 1e25, topk_similarity(queries, gallery / 1e25, 4), 4)
    found = topk_similarity(queries, gallery, 4)
    assert found[1].equal(topk_similarity_reference(queries, gallery, 4)[1])


# Halves for the tensor cores.


@pytest.mark.parametrize(
    ("dtypes", "count", "expected"),
    [
        ((torch.float32, torch.float32), 64, torch.float16),
        ((torch.float32, torch.float32), 63, torch.float32),
        ((torch.float16, torch.float32), 64, torch.float16),
        ((torch.float32, torch.float16), 5, torch.float16),
        ((torch.float32, torch.bfloat16), 5, torch.bfloat16),
        ((torch.float16, torch.bfloat16), 5, torch.bfloat16),
        ((torch.bfloat16, torch.bfloat16), 5, torch.bfloat16),
    ],
)
def test_the_first_pass_multiplies_halves_where_that_pays(dtypes, count, expected, monkeypatch):
    """And what comes out is what float32 says."""
    queries = normalize(randn(count, 48, seed=1)).to(dtypes[0])
    gallery = normalize(randn(900, 48)).to(dtypes[1])
    seen, inner = [], topk_triton.group_maxima

    def seeing(some, rows, group):
        seen.append((some.dtype, rows.dtype))
        return inner(some, rows, group)

    monkeypatch.setattr(topk_triton, "group_maxima", seeing)
    found = topk_similarity(queries, gallery, 5)
    assert seen == [(expected, expected)]
    assert_the_best(queries.float(), gallery.float(), found, 5)


@pytest.mark.parametrize("size", [1.0, 3e4, 1e5, 1e20, 1e-6, 1e-12, 1e-21])
def test_halves_bound_rows_that_they_hardly_hold(size, monkeypatch):
    """Too large for float16, without digits in it, or nothing at all there."""
    monkeypatch.setattr(quick, "COPIED", 0)
    queries, gallery = randn(3, 20, seed=1), size * randn(700, 20)
    found = topk_similarity(queries, gallery, 4)[1]
    assert found.equal(topk_similarity_reference(queries, gallery, 4)[1])
    found = topk_similarity(size * queries, gallery / size, 4)[1]
    assert found.equal(topk_similarity_reference(size * queries, gallery / size, 4)[1])


def test_rows_that_float16_cannot_tell_apart_keep_their_order(monkeypatch):
    monkeypatch.setattr(quick, "COPIED", 0)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(5))
    gallery = torch.zeros(900, 16)
    gallery[:, 0], gallery[:, 1] = 0.5 + 1e-6 * order, 1.0
    queries = torch.zeros(3, 16)
    queries[:, 0] = torch.tensor([1.0, 1.0001, -1.0])
    found = topk_similarity(queries, gallery, 6)[1]
    assert found.equal(topk_similarity_reference(queries, gallery, 6)[1])


def test_a_copy_for_which_there_is_no_room_is_not_made(monkeypatch):
    monkeypatch.setattr(quick, "_room", lambda gallery: False)
    queries, gallery = randn(70, 24, seed=1), randn(400, 24)
    assert quick.quick_dtype(queries, gallery) is None
    assert_the_best(queries, gallery, topk_similarity(queries, gallery, 3), 3)


# What the first pass may round away.


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_maxima_are_as_good_as_float32(dtype):
    queries, gallery = randn(5, 200, seed=1).to(dtype), randn(300, 200).to(dtype)
    exact = (queries.double() @ gallery.double().T)[:, :288].view(5, 9, 32).amax(2)
    limit = (
        200
        * EPSILON
        * queries.double().norm(dim=1, keepdim=True)
        * gallery.double().norm(dim=1).amax()
    )
    for found in (
        topk_triton.group_maxima(queries, gallery, 32)[:, :9],
        topk_triton.group_maxima(queries, gallery, 8)[:, :36].view(5, 9, 4).amax(2),
        topk_triton.group_maxima(queries, gallery, 1)[:, :288].view(5, 9, 32).amax(2),
    ):
        assert ((found - exact).abs() <= limit / 10).all()


def test_maxima_disturbed_within_their_rounding_change_nothing(monkeypatch):
    """A hundred groups whose best rows differ by far less than a first pass may round.

    By nearly all that rounding may do, the groups that come next are moved up and all others
    down: the right ones are not among the first that are taken, and seem to be far behind.
    """
    width, groups = 128, 100
    step = width * EPSILON / 60  # between scores; float32 rounds at a tenth of it
    order = torch.randperm(groups, generator=torch.Generator().manual_seed(3))
    gallery = torch.zeros(groups * 32, width)
    gallery[:, 1] = 1.0
    gallery[torch.arange(groups) * 32 + 7, 0] = 0.5 + step * order
    queries = torch.zeros(2, width)
    queries[:, 0] = torch.tensor([1.0, 3.0])
    inner = topk_triton.group_maxima

    def disturbed(queries, gallery, group):
        maxima = inner(queries, gallery, group)
        if group == 1:
            return maxima
        limit = width * EPSILON * queries.norm(dim=1, keepdim=True) * gallery.norm(dim=1).amax()
        ahead = (order < groups - 5) & (order >= groups - 5 - 13)  # as many as are taken first
        return maxima + 0.9 * limit * (2.0 * ahead - 1)

    monkeypatch.setattr(topk_triton, "group_maxima", disturbed)
    found = topk_similarity(queries, gallery, 5)
    assert found[1].equal(topk_similarity_reference(queries, gallery, 5)[1])


# Ranks: float64 decides.


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_scores_that_differ_in_float64_alone_are_no_ties(dtype):
    queries = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).to(dtype)
    gallery = torch.tensor([[1.0, 0.0], [1.0, 1e-8], [1.0, -1e-8], [1.0, 0.0]])
    gallery = torch.cat([gallery, torch.zeros(700, 2)]).to(dtype)
    for right in range(4):
        expected = ground_truth_ranks_reference(queries, gallery, [right] * 2)
        assert ground_truth_ranks(queries, gallery, [right] * 2).equal(expected)
    if dtype != torch.float16:  # which has no 1e-8
        assert ground_truth_ranks(queries, gallery, [0, 0]).tolist() == [2.5, 2.5]


def test_near_ties_are_ordered_as_in_float64(monkeypatch):
    monkeypatch.setattr(ranks_triton, "WORDS", 50)
    monkeypatch.setattr(ranks_triton, "APART", 3)
    base = randn(1, 40)
    gallery = base + 1e-7 * randn(400, 40, seed=1)
    gallery[::9] = gallery[4]
    queries = base.repeat(5, 1) + 1e-3 * randn(5, 40, seed=2)
    for right in ([0, 1, 2, 3, 4], [{0, 1}, {5}, {8, 9, 10}, {399}, {17}]):
        expected = ground_truth_ranks_reference(queries, gallery, right)
        assert ground_truth_ranks(queries, gallery, right).equal(expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_row_that_is_not_finite_has_no_rank(bad):
    queries, gallery = randn(3, 8), randn(80, 8, seed=1)
    gallery[50, 2] = bad
    with pytest.raises(C4CError, match="NaN or infinite"):
        ground_truth_ranks(queries, gallery, [0, 1, 2])
    with pytest.raises(C4CError, match="query 1 "):
        ground_truth_ranks(gallery[49:52], queries, [0, 1, 2])


def test_without_queries():
    assert ground_truth_ranks(torch.ones(0, 4), torch.ones(3, 4), []).shape == (0,)


# Addresses beyond 32 bits.


@pytest.fixture
def apart(tmp_path):
    """Three rows of a file of gigabytes that takes no room on the disk."""

    def rows(width):
        stride = 1_200_000_000  # elements: the third row begins beyond 2**31 of them
        size = 2 * stride + width
        path = tmp_path / "sparse"
        with path.open("wb") as file:
            file.truncate(2 * size)
        storage = torch.from_file(str(path), shared=True, size=size, dtype=torch.float16)
        view = storage.as_strided((3, width), (stride, 1))
        view.copy_(randn(3, width))
        return view

    return rows


def test_rows_lie_where_64_bits_say(apart):
    gallery = apart(40)
    small, queries = gallery.clone(), randn(2, 40, seed=1).half()
    assert topk_similarity(queries, gallery, 2)[1].equal(topk_similarity(queries, small, 2)[1])
    assert topk_similarity(gallery, queries, 2)[1].equal(topk_similarity(small, queries, 2)[1])
    ranks = ground_truth_ranks(queries, small, [2, 1])
    assert ground_truth_ranks(queries, gallery, [2, 1]).equal(ranks)
    offsets = torch.tensor([0, 1, 3])
    pooled = masked_mean_pool(small, offsets=offsets)
    assert masked_mean_pool(gallery, offsets=offsets).equal(pooled)


# Pooling.


def test_a_clip_that_reaches_beyond_the_frames_is_no_number_and_reads_nothing():
    frames = torch.ones(6, 5)
    starts, counts = torch.tensor([0, -1, 2, 4, 2**62, 6]), torch.tensor([6, 2, -1, 3, 1, 0])
    pooled, sums = torch.ops.c4c.masked_mean_pool(frames, starts, counts, True)
    assert pooled.isnan().any(1).tolist() == [False, True, True, True, True, False]
    assert (pooled[5] == 0).all()
    bad = slice(1, 5)
    grad = torch.ops.c4c.masked_mean_pool_backward(
        torch.ones(4, 5), frames, starts[bad], counts[bad], sums[bad]
    )
    assert (grad == 0).all()


@pytest.mark.parametrize("keep", [True, False])
def test_the_operator_obeys_torch_library(keep):
    frames = torch.randn(6, 5, requires_grad=True)
    rows = (torch.tensor([0, 2]), torch.tensor([2, 4]))
    torch.library.opcheck(torch.ops.c4c.masked_mean_pool.default, (frames, *rows, keep))


# Galleries that are brought to the device a block at a time.


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BYTES", 16 * 2 * 200)
    monkeypatch.setattr(stream, "BLOCK_ROWS", 50)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 50)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["a file", "blocks", "blocks of several dtypes"])
def test_a_gallery_that_lies_elsewhere_gives_the_same_rows(kind, tmp_path):
    queries, gallery = randn(6, 16, seed=1).half(), randn(530, 16).half()
    gallery[500] = gallery[3]
    expected = topk_similarity(queries, gallery, 9)
    if kind == "a file":
        np.save(tmp_path / "rows.npy", gallery.numpy())
        elsewhere = np.load(tmp_path / "rows.npy", mmap_mode="r")
    else:
        cuts = gallery.split([1, 0, 130, 260, 139])
        kinds = [torch.float32, torch.half, torch.double, torch.half, torch.bfloat16]
        if kind == "blocks":
            elsewhere = [part.numpy() if len(part) % 2 else part for part in cuts]
        else:
            gallery = torch.cat([part.to(t).float() for part, t in zip(cuts, kinds, strict=True)])
            expected = topk_similarity(queries, gallery, 9)
            elsewhere = (part.to(t) for part, t in zip(cuts, kinds, strict=True))
    scores, rows = topk_similarity(queries, elsewhere, 9)
    assert rows.equal(expected[1])
    torch.testing.assert_close(scores, expected[0])


@pytest.mark.usefixtures("small_blocks")
def test_the_next_block_is_read_while_one_is_searched(monkeypatch):
    """Not in turn: the first search waits until a later block has been read."""
    second, inner = threading.Event(), topk_triton.best_keys

    def pieces():
        for number in range(4):
            if number == 1:
                second.set()
            yield randn(200, 16, seed=number)

    def waiting(*arguments):
        assert second.wait(20)
        return inner(*arguments)

    monkeypatch.setattr(topk_triton, "best_keys", waiting)
    queries = randn(5, 16, seed=9)
    found = topk_similarity(queries, pieces(), 3)
    whole = torch.cat([randn(200, 16, seed=number) for number in range(4)])
    assert found[1].equal(topk_similarity_reference(queries, whole, 3)[1])


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("queries", [2, 6])
def test_faults_of_a_stream_are_told_with_their_rows(queries):
    rows = randn(700, 16)
    rows[444, 2] = torch.nan
    with pytest.raises(C4CError, match="gallery row 444 "):
        topk_similarity(randn(queries, 16), iter(rows.split(64)), 3)
    with pytest.raises(C4CError, match="widths differ"):
        topk_similarity(randn(queries, 16), [rows[:90], rows[:90, :8]], 3)

    def failing():
        yield rows[:300]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        topk_similarity(randn(queries, 16), failing(), 3)


def test_streams_of_nothing():
    scores, rows = topk_similarity(randn(5, 16), [], 3)
    assert (rows == -1).all() and (scores == -torch.inf).all()
