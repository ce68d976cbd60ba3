"""Masked mean pooling: the definition, ragged input, gradients, and what must not matter."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c4c.core.errors import C4CError
from c4c.kernels import masked_mean_pool, native
from c4c.kernels.dispatch import compute_dtype
from c4c.kernels.pool import op as module
from c4c.kernels.pool.naive import cancelled, masked_mean_pool_reference

# Rounding of the result to the dtype, and a little for sums in float32.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


# What this machine has for pooling, and 0, the path in torch.
LEVELS = [*(level for level in native.LEVELS if native.runs("pool", level)), 0]


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    monkeypatch.setattr(native, "levels", lambda: (request.param, request.param))
    return request.param


def test_two_orthogonal_frames_give_the_diagonal():
    frames = torch.tensor([[[3.0, 0.0], [0.0, 0.5]]])
    expected = torch.tensor([[0.5**0.5, 0.5**0.5]])
    torch.testing.assert_close(masked_mean_pool(frames, torch.tensor([2])), expected)


@given(
    n=st.integers(1, 9),
    t=st.integers(1, 11),
    d=st.one_of(st.integers(1, 140), st.sampled_from([256, 512])),
    dtype=st.sampled_from(list(TOLERANCE)),
    level=st.sampled_from(LEVELS),
    seed=st.integers(0, 999),
)
def test_equals_the_definition_in_float64(n, t, d, dtype, level, seed):
    generator = torch.Generator().manual_seed(seed)
    # A common part: a mean that nearly cancels has fewer digits.
    frames = (torch.randn(n, t, d, generator=generator) + 2.0).to(dtype)
    lengths = torch.randint(0, t + 1, (n,), generator=generator)
    expected = masked_mean_pool_reference(frames.double(), lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "levels", lambda: (level, level))
        got = masked_mean_pool(frames, lengths).double()
    assert (got - expected).abs().max() <= 2 * TOLERANCE[dtype]


def opposites(pairs, dim, dtype, seed):
    """A clip [1, T, D] of frames whose mean is zero: x and -x, of many lengths, in any order.

    Whole numbers, so that every dtype holds exactly these directions.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(-8, 9, (pairs, dim), generator=generator)
    rows[:, 0] += rows[:, 0] == 0
    lengths = torch.randint(1, 16, (2, pairs, 1), generator=generator)
    every = torch.cat([lengths[0] * rows, -lengths[1] * rows])
    return every[torch.randperm(2 * pairs, generator=generator)].to(dtype)[None]


@settings(max_examples=2 * settings.default.max_examples)
@given(
    pairs=st.one_of(st.integers(1, 12), st.sampled_from([50, 1000])),
    d=st.one_of(st.integers(1, 140), st.sampled_from([512, 2000])),
    dtype=st.sampled_from(list(TOLERANCE)),
    level=st.sampled_from(LEVELS),
    seed=st.integers(0, 999),
)
def test_frames_that_cancel_give_zeros_and_no_gradient(pairs, d, dtype, level, seed):
    """What rounding leaves of such a mean is no direction; everybody says so."""
    frames = opposites(pairs, d, dtype, seed).requires_grad_()
    lengths, weights = torch.tensor([2 * pairs]), torch.arange(1.0, d + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "levels", lambda: (level, level))
        pooled = masked_mean_pool(frames, lengths)
        (pooled * weights).sum().backward()
    assert (pooled == 0).all() and (frames.grad == 0).all()
    for precision in (dtype, torch.float64):
        exact = frames.detach().to(precision).requires_grad_()
        defined = masked_mean_pool_reference(exact, lengths)
        (defined * weights).sum().backward()
        assert (defined == 0).all() and (exact.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_mean_that_is_small_but_not_nothing_keeps_its_direction(dtype, level):
    """A thousand times what rounding may leave: there are three digits."""
    frames = opposites(3, 40, dtype, seed=1)[0]
    rest = 1e3 * cancelled(dtype, torch.tensor(8), 40)
    unit = torch.nn.functional.normalize(torch.arange(1.0, 41).to(dtype), dim=0)
    other = torch.nn.functional.normalize(torch.arange(40.0, 0, -1).to(dtype), dim=0)
    turned = other + rest * unit
    clip = torch.cat([frames, turned[None], -other[None]])[None].requires_grad_()
    pooled = masked_mean_pool(clip, torch.tensor([8]))
    defined = masked_mean_pool_reference(clip.double(), torch.tensor([8]))
    assert (pooled.double() - defined).abs().max() < 0.05
    pooled[0, 0].backward()
    assert clip.grad.abs().max() > 1


def test_the_mean_that_was_rounding_in_one_path_and_nothing_in_another():
    """Drawn by chance once: six frames of width one, three of them negative, in float64."""
    generator = torch.Generator().manual_seed(0)
    frames = (torch.randn(7, 6, 1, generator=generator) + 2.0).double()
    lengths = torch.randint(0, 7, (7,), generator=generator)
    expected = frames.sign().cumsum(1).gather(1, (lengths - 1).clamp(min=0)[:, None, None])[:, 0]
    assert 0 in expected.tolist()[1]
    assert masked_mean_pool(frames, lengths).equal(expected.sign())
    assert masked_mean_pool_reference(frames, lengths).equal(expected.sign())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_frames_too_small_to_be_squared_count_as_nothing(dtype, level):
    """Their squares have no digits left, or none at all."""
    smallest = torch.finfo(compute_dtype(dtype)).tiny ** 0.5
    one = torch.ones(1, 2, 20).to(dtype)
    one[0, 1, 10:] = -1
    one[0, 1] *= smallest
    one.requires_grad_()
    pooled = masked_mean_pool(one, torch.tensor([2]))
    pooled[0, :3].sum().backward()
    defined = masked_mean_pool_reference(one.detach(), torch.tensor([2]))
    assert (one[0, 1] != 0).all()
    for found in (pooled, defined):
        expected = torch.full((1, 20), 20**-0.5, dtype=torch.float64)
        assert (found.double() - expected).abs().max() <= TOLERANCE[dtype]
    assert (one.grad[0, 1] == 0).all()


def test_packed_equals_padded(level):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([3, 0, 5, 1])
    padded = torch.randn(4, 5, 16, generator=generator)
    packed = torch.cat([padded[i, :n] for i, n in enumerate(lengths)])
    offsets = torch.tensor([0, 3, 3, 8, 9])
    got = masked_mean_pool(packed, offsets=offsets)
    torch.testing.assert_close(got, masked_mean_pool(padded, lengths), rtol=0, atol=0)


def test_padding_never_changes_the_result_or_the_gradient(level):
    frames = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([2, 0, 4])
    poisoned = frames.clone()
    for clip, length in enumerate(lengths):
        poisoned[clip, length:] = torch.nan
    poisoned.requires_grad_()
    pooled = masked_mean_pool(poisoned, lengths)
    pooled[:, 0].sum().backward()
    torch.testing.assert_close(pooled.detach(), masked_mean_pool(frames, lengths))
    assert torch.isfinite(poisoned.grad).all()
    assert (poisoned.grad[1] == 0).all() and (poisoned.grad[0, 2:] == 0).all()


def test_clips_without_frames_and_frames_of_zeros_give_zeros(level):
    frames = torch.zeros(2, 3, 4, requires_grad=True)
    pooled = masked_mean_pool(frames, torch.tensor([0, 3]))
    pooled.sum().backward()
    assert (pooled == 0).all() and (frames.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_gradient_is_that_of_the_definition(dtype, level):
    generator = torch.Generator().manual_seed(7)
    lengths = torch.tensor([0, 1, 2, 3, 4, 5, 9])
    frames = (torch.randn(7, 9, 50, generator=generator) + 1).to(dtype).requires_grad_()
    weights = torch.randn(7, 50, generator=generator)
    (masked_mean_pool(frames, lengths) * weights).sum().backward()
    exact = frames.detach().double().requires_grad_()
    (masked_mean_pool_reference(exact, lengths) * weights).sum().backward()
    assert (frames.grad.double() - exact.grad).abs().max() <= 2 * TOLERANCE[dtype]


def test_one_frame_that_stands_for_many(level):
    frame = torch.randn(1, 32, generator=torch.Generator().manual_seed(8))
    offsets, weights = torch.tensor([0, 3, 10]), torch.arange(32.0)

    def gradient(frames):
        frames = frames.detach().requires_grad_()
        (masked_mean_pool(frames, offsets=offsets) * weights).sum().backward()
        return frames.grad

    torch.testing.assert_close(gradient(frame.expand(10, 32)), gradient(frame.repeat(10, 1)))


@pytest.mark.parametrize("how", ["padded", "packed"])
def test_gradient_by_finite_differences(how):
    generator = torch.Generator().manual_seed(2)
    if how == "padded":
        frames = torch.randn(4, 3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
        lengths = torch.tensor([0, 1, 3, 2])
        assert torch.autograd.gradcheck(lambda x: masked_mean_pool(x, lengths), frames)
    else:
        frames = torch.randn(6, 5, dtype=torch.float64, generator=generator, requires_grad=True)
        offsets = torch.tensor([0, 0, 4, 6])
        assert torch.autograd.gradcheck(lambda x: masked_mean_pool(x, offsets=offsets), frames)


def test_strides_do_not_matter(level):
    wide = torch.randn(10, 8, 12, generator=torch.Generator().manual_seed(3))
    view = wide[::2, :, ::3].transpose(0, 1)
    lengths = torch.tensor([5, 4, 3, 2, 1, 0, 5, 5])
    expected = masked_mean_pool(view.contiguous(), lengths)
    torch.testing.assert_close(masked_mean_pool(view, lengths), expected)


@pytest.mark.parametrize("how", ["padded", "packed"])
def test_many_clips_cross_the_chunks(how, level, monkeypatch):
    """And so do their gradients, which are made in chunks whatever pools them."""
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(0, 13, (40,), generator=generator)
    padded = torch.randn(40, 12, 16, generator=generator, dtype=torch.float64)
    weights = torch.randn(40, 16, generator=generator)
    exact = padded.clone().requires_grad_()
    expected = masked_mean_pool_reference(exact, lengths)
    (expected * weights).sum().backward()
    inside = torch.arange(12) < lengths[:, None]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    monkeypatch.setattr(module, "CHUNK_BYTES", 30 * 16 * 4)
    assert len(list(module._steps(offsets[:-1], lengths, 16))) > 5
    frames = padded if how == "padded" else padded[inside]
    frames = frames.float().requires_grad_()
    where = {"lengths": lengths} if how == "padded" else {"offsets": offsets}
    pooled = masked_mean_pool(frames, **where)
    (pooled * weights).sum().backward()
    gradient = exact.grad if how == "padded" else exact.grad[inside]
    torch.testing.assert_close(pooled.double(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(frames.grad.double(), gradient, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_frames_that_are_not_finite_spoil_their_clip_alone(dtype, level):
    frames = torch.ones(3, 4, 40, dtype=dtype)
    frames[1, 2, 7] = torch.nan
    pooled = masked_mean_pool(frames, torch.tensor([4, 4, 4]))
    assert pooled[1].isnan().any()
    torch.testing.assert_close(
        pooled[[0, 2]].double().norm(dim=1), torch.ones(2).double(), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_show(threads, level):
    generator, before = torch.Generator().manual_seed(6), torch.get_num_threads()
    frames = torch.randn(3000, 300, generator=generator).half()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(1, 77).cumsum(0)])
    offsets = torch.cat([offsets, torch.tensor([2926, 3000])])
    padded = torch.nn.utils.rnn.pad_sequence(frames.split(offsets.diff().tolist()), True)
    expected = masked_mean_pool_reference(padded.double(), offsets.diff())
    torch.set_num_threads(threads)
    try:
        found = masked_mean_pool(frames, offsets=offsets)
    finally:
        torch.set_num_threads(before)
    assert (found.double() - expected).abs().max() < 1e-3


def test_no_clips_at_all(level):
    assert masked_mean_pool(torch.zeros(0, 4, 8), torch.zeros(0, dtype=torch.long)).shape == (0, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lengths": None}, "either lengths"),
        ({"lengths": torch.tensor([1, 9])}, "0..3"),
        ({"lengths": torch.tensor([1])}, "lengths must be integers"),
        ({"lengths": torch.tensor([1.0, 2.0])}, "lengths must be integers"),
    ],
)
def test_errors_say_what_was_expected(arguments, message):
    with pytest.raises(C4CError, match=message):
        masked_mean_pool(torch.ones(2, 3, 4), **arguments)


def test_offsets_must_cover_the_frames():
    with pytest.raises(C4CError, match="number of frames"):
        masked_mean_pool(torch.ones(5, 4), offsets=torch.tensor([0, 3]))


@pytest.mark.parametrize(("start", "count"), [(0, 10**9), (-1, 2), (2, -1), (4, 3), (2**62, 1)])
def test_an_operator_called_by_itself_reads_no_other_memory(start, count, level):
    rows = torch.tensor([start]), torch.tensor([count])
    for frames in (torch.ones(6, 5), torch.ones(6, 5).double()):
        with pytest.raises(C4CError, match="beyond the 6 frames"):
            torch.ops.c4c.masked_mean_pool(frames, *rows, False)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("gradient", [True, False])
def test_the_operator_obeys_torch_library(keep, gradient):
    frames = torch.randn(6, 5, requires_grad=gradient)
    rows = (torch.tensor([0, 2]), torch.tensor([2, 4]))
    torch.library.opcheck(torch.ops.c4c.masked_mean_pool.default, (frames, *rows, keep))


def test_the_gradient_does_not_depend_on_whether_sums_were_kept(level):
    generator = torch.Generator().manual_seed(0)
    rows, weights = (torch.tensor([0, 2]), torch.tensor([2, 4])), torch.arange(5.0)
    found = []
    for keep in (True, False):
        frames = torch.randn(6, 5, generator=generator.manual_seed(0), requires_grad=True)
        pooled, _ = torch.ops.c4c.masked_mean_pool(frames, *rows, keep)
        (pooled * weights).sum().backward()
        found.append(frames.grad)
    assert found[0].equal(found[1]) and (found[0] != 0).any()


def test_a_backward_of_other_shapes_is_refused():
    frames, rows = torch.ones(6, 5), (torch.tensor([0, 2]), torch.tensor([2, 4]))
    for grad, sums in ((torch.ones(2, 5), torch.ones(0)), (torch.ones(1, 5), torch.ones(2, 5))):
        with pytest.raises(C4CError, match="are not"):
            torch.ops.c4c.masked_mean_pool_backward(grad, frames, *rows, sums)
