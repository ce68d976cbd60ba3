"""Cases for Triton's interpreter; test_triton.py runs this file in a process of its own.

The public functions take the Triton path on CPU tensors when TRITON_INTERPRET=1.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from c4c.core.errors import C4CError
from c4c.kernels import contrastive_loss, ground_truth_ranks, masked_mean_pool, topk_similarity
from c4c.kernels.contrastive.naive import contrastive_loss_reference
from c4c.kernels.dispatch import interpreted
from c4c.kernels.pool.naive import masked_mean_pool_reference
from c4c.kernels.ranks.naive import ground_truth_ranks_reference
from c4c.kernels.topk.naive import topk_similarity_reference

# One rounding to the dtype of a number around one.
EPSILON = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
DTYPES = st.sampled_from(list(EPSILON))
SEEDS = st.integers(0, 999)
LAYOUTS = st.sampled_from(["rows", "columns", "every other"])


def laid_out(matrix, layout):
    """The same matrix with other strides."""
    if layout == "columns":
        return matrix.T.contiguous().T
    if layout == "every other":
        wide = torch.full((2 * matrix.shape[0], 2 * matrix.shape[1]), torch.nan).to(matrix.dtype)
        wide[::2, ::2] = matrix
        return wide[::2, ::2]
    return matrix


def test_the_interpreter_is_on():
    assert interpreted()


def clips(n, t, d, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(n, t, d, generator=generator)
    # A common part: a mean that nearly cancels has fewer digits.
    frames = (frames + 2.0).to(dtype)
    return frames, torch.randint(0, t + 1, (n,), generator=generator)


@settings(max_examples=settings.default.max_examples // 3)
@given(n=st.integers(1, 6), t=st.integers(1, 9), d=st.integers(1, 70), dtype=DTYPES, seed=SEEDS)
def test_pool_and_its_gradient(n, t, d, dtype, seed):
    frames, lengths = clips(n, t, d, dtype, seed)
    for clip, length in enumerate(lengths):
        frames[clip, length:] = torch.nan
    frames.requires_grad_()
    exact = frames.detach().double().requires_grad_()
    weights = torch.randn(n, d, generator=torch.Generator().manual_seed(seed + 1))
    got, expected = masked_mean_pool(frames, lengths), masked_mean_pool_reference(exact, lengths)
    assert (got - expected).abs().max() <= 2 * EPSILON[dtype]
    (got * weights).sum().backward()
    (expected * weights).sum().backward()
    size = exact.grad.abs().max().clamp(min=1.0)
    assert (frames.grad - exact.grad).abs().max() <= 8 * EPSILON[dtype] * size


@settings(max_examples=settings.default.max_examples // 4)
@given(pairs=st.integers(1, 12), d=st.integers(1, 140), dtype=DTYPES, seed=SEEDS)
def test_frames_that_cancel_give_zeros_and_no_gradient(pairs, d, dtype, seed):
    """As on a CPU (test_pool.py): opposite frames of many lengths, exact in every dtype."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-8, 9, (pairs, d), generator=generator)
    rows[:, 0] += rows[:, 0] == 0
    lengths = torch.randint(1, 16, (2, pairs, 1), generator=generator)
    frames = torch.cat([lengths[0] * rows, -lengths[1] * rows]).to(dtype)
    frames = frames[torch.randperm(2 * pairs, generator=generator)].requires_grad_()
    pooled = masked_mean_pool(frames, offsets=torch.tensor([0, 2 * pairs]))
    (pooled * torch.arange(1.0, d + 1)).sum().backward()
    assert (pooled == 0).all() and (frames.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frames_too_small_to_be_squared_count_as_nothing(dtype):
    frames = torch.ones(2, 20).to(dtype)
    frames[1] *= -1e-19
    frames.requires_grad_()
    pooled = masked_mean_pool(frames, offsets=torch.tensor([0, 2]))
    pooled[0, :3].sum().backward()
    assert (pooled.float() - 20**-0.5).abs().max() <= EPSILON[dtype]
    assert (frames.grad[1] == 0).all() and (frames.grad[0] != 0).all()


def test_pool_takes_packed_frames_with_strides():
    frames = torch.randn(9, 40, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, 4, 4, 9])
    expected = masked_mean_pool(frames.double(), offsets=offsets).float()
    for same in (frames, frames.T.contiguous().T, torch.cat([frames, frames], 1)[:, :40]):
        torch.testing.assert_close(masked_mean_pool(same, offsets=offsets), expected)


@settings(max_examples=settings.default.max_examples // 5)
@given(batch=st.integers(1, 140), d=st.integers(1, 150), dtype=DTYPES, seed=SEEDS, layout=LAYOUTS)
def test_contrastive_loss_and_its_gradient(batch, d, dtype, seed, layout):
    generator = torch.Generator().manual_seed(seed)
    inputs = [normalize(torch.randn(batch, d, generator=generator), dim=1).to(dtype) for _ in "tv"]
    inputs = [laid_out(x, layout).requires_grad_() for x in inputs] + [
        torch.tensor(20.0, requires_grad=True)
    ]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    got, expected = contrastive_loss(*inputs), contrastive_loss_reference(*exact)
    assert (got - expected).abs() <= 1e-5 * expected.clamp(min=1.0)
    got.backward()
    expected.backward()
    for one, other in zip(inputs, exact, strict=True):
        # Probabilities are rounded to the dtype, and multiplied by the scale.
        assert (one.grad - other.grad).abs().max() <= 4 * EPSILON[dtype] * 20 / batch + 1e-6


@settings(max_examples=settings.default.max_examples // 8)
@given(
    q=st.integers(1, 140),
    n=st.integers(1, 500),
    d=st.integers(1, 70),
    k=st.sampled_from([1, 3, 10, 70]),
    dtype=DTYPES,
    seed=SEEDS,
    layout=LAYOUTS,
)
def test_topk_of_whole_numbers_is_exact_with_ties_by_lower_index(q, n, d, k, dtype, seed, layout):
    generator = torch.Generator().manual_seed(seed)
    queries = laid_out(torch.randn(q, d, generator=generator).round().to(dtype), layout)
    gallery = laid_out(torch.randn(n, d, generator=generator).round().to(dtype), layout)
    scores, indices = topk_similarity(queries, gallery, k)
    expected = topk_similarity_reference(queries, gallery, k)
    real = min(k, n)
    assert scores[:, :real].equal(expected[0]) and indices[:, :real].equal(expected[1])
    assert (indices[:, real:] == -1).all()


def test_topk_of_queries_that_come_in_portions(monkeypatch):
    from c4c.kernels.topk import triton as topk_triton

    monkeypatch.setattr(topk_triton, "MAXIMA", 40)
    monkeypatch.setattr(topk_triton, "LEAST", 2)
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(5, 33, generator=generator), torch.randn(700, 33)
    expected = topk_similarity_reference(queries, gallery, 12)
    scores, indices = topk_similarity(queries, gallery, 12)
    assert indices.equal(expected[1])
    torch.testing.assert_close(scores, expected[0])


@pytest.mark.parametrize("queries", [2, 9])
def test_topk_names_rows_that_are_not_finite(queries):
    gallery = torch.ones(300, 8)
    gallery[222, 3] = torch.inf
    with pytest.raises(C4CError, match="gallery row 222 "):
        topk_similarity(torch.ones(queries, 8), gallery, 3)


@settings(max_examples=settings.default.max_examples // 8)
@given(
    q=st.integers(1, 140),
    n=st.integers(1, 400),
    d=st.integers(1, 40),
    dtype=DTYPES,
    seed=SEEDS,
    layout=LAYOUTS,
)
def test_ranks_with_ties(q, n, d, dtype, seed, layout):
    generator = torch.Generator().manual_seed(seed)
    queries = laid_out(torch.randn(q, d, generator=generator).round().to(dtype), layout)
    gallery = laid_out(torch.randn(n, d, generator=generator).round().to(dtype), layout)
    targets = torch.randint(0, n, (q,), generator=generator)
    sets = [{int(t), int(seed * t) % n} for t in targets]
    for right in (targets, sets):
        expected = ground_truth_ranks_reference(queries, gallery, right)
        assert ground_truth_ranks(queries, gallery, right).equal(expected)
