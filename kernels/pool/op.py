"""Masked mean pooling: frame vectors in, one unit vector a clip out.

CLIP4Clip's mean pooling (section 3.3, "parameter-free type"): every frame is
L2-normalised, the frames of a clip are averaged, and the mean is L2-normalised. Frames
come padded, [N, T, D] with lengths, or packed as they lie in the cache, [F, D] with
offsets; inside, both are "clip n owns ``counts[n]`` rows from row ``starts[n]``".
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels import native
from c4c.kernels.dispatch import check_matrix, compute_dtype, use_triton
from c4c.kernels.pool.naive import OP, cancelled, noise, smallest

# Bytes of float32 frames that one step of the CPU path works on: they stay in the cache.
CHUNK_BYTES = 8 << 20
# Numbers that one thread pools before a second would have started.
ALONE = 1 << 18
# Runs of clips that each thread is given, in the mean.
RUNS = 8


def masked_mean_pool(
    features: Tensor, lengths: Tensor | None = None, *, offsets: Tensor | None = None
) -> Tensor:
    """Average the unit vectors of each clip's frames and normalise the mean.

    A frame of norm zero counts as nothing and has gradient zero; so does one so small that
    its square underflows (a norm below 3e-16; 1e-146 in float64). A clip without frames
    gives a vector of zeros and no gradient. So does one whose frames cancel, leaving of
    their mean only what rounding leaves: a norm of at most ``4 eps sqrt(n + D)`` for n
    frames, eps that of float32 (float64 for float64). Padding is never read, so whatever
    stands there, NaN included, changes nothing.

    Args:
        features: padded frames [N, T, D], or packed frames [F, D]; float16, bfloat16,
            float32 or float64. Sums are made in float32 (float64 for float64).
        lengths: frames of each clip, integers [N] in 0..T; for padded frames.
        offsets: where each clip begins, integers [N + 1] rising from 0 to F; for packed
            frames.

    Returns:
        One vector a clip, [N, D], in the dtype of ``features``, of norm one or zero.

    Raises:
        C4CError: shapes, dtypes, lengths or offsets do not fit together.

    Example:
        >>> frames = torch.tensor([[[3.0, 0.0], [0.0, 0.5]], [[2.0, 1.0], [-4.0, -2.0]]])
        >>> masked_mean_pool(frames, torch.tensor([2, 2]))
        tensor([[0.7071, 0.7071],
                [0.0000, 0.0000]])
    """
    if (lengths is None) == (offsets is None):
        raise C4CError(f"{OP}: pass either lengths (padded frames) or offsets (packed frames).")
    if offsets is not None:
        frames = check_matrix(OP, "features", features)
        starts, counts = _packed_rows(frames, offsets)
    else:
        padded = check_matrix(OP, "features", features, dims=3)
        assert lengths is not None
        frames, starts, counts = _padded_rows(padded, lengths)
    keep = torch.is_grad_enabled() and features.requires_grad
    pooled, _ = torch.ops.c4c.masked_mean_pool(frames, starts, counts, keep)
    return pooled  # type: ignore[no-any-return]


def _packed_rows(frames: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    if offsets.dim() != 1 or offsets.numel() < 1 or offsets.dtype.is_floating_point:
        raise C4CError(f"{OP}: offsets must be integers [N + 1], got {list(offsets.shape)}.")
    offsets = offsets.long()
    counts = offsets.diff()
    # Values are only looked at where that costs no wait for the GPU; kernels mind the rest.
    if offsets.device.type == "cpu" and (
        offsets[0] != 0 or offsets[-1] != len(frames) or bool((counts < 0).any())
    ):
        raise C4CError(
            f"{OP}: offsets must rise from 0 to the number of frames ({len(frames)}); "
            f"got {offsets[0].item()}..{offsets[-1].item()}."
        )
    return offsets[:-1].to(frames.device), counts.to(frames.device)


def _padded_rows(padded: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    n, t, d = padded.shape
    if lengths.shape != (n,) or lengths.dtype.is_floating_point:
        raise C4CError(
            f"{OP}: lengths must be integers [{n}] for features {list(padded.shape)}, "
            f"got {lengths.dtype} {list(lengths.shape)}."
        )
    # As with offsets.
    if lengths.device.type == "cpu" and n and (lengths.min() < 0 or lengths.max() > t):
        raise C4CError(
            f"{OP}: lengths must lie in 0..{t} (frames given), "
            f"got {lengths.min().item()}..{lengths.max().item()}."
        )
    starts = torch.arange(n, device=padded.device) * t
    counts = lengths.to(device=padded.device, dtype=torch.int64).clamp(0, t)
    return padded.reshape(n * t, d), starts, counts


@torch.library.custom_op("c4c::masked_mean_pool", mutates_args=())
def _pool(frames: Tensor, starts: Tensor, counts: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """Pooled [N, D] and, if ``keep``, the sums of unit frames [N, D] for the backward.

    A clip that reaches beyond the frames is an error on a CPU. On a GPU, where to ask would be
    to wait, it gives NaN; nothing outside the frames is read.
    """
    if use_triton(frames):
        from c4c.kernels.pool.triton import pool_forward

        return pool_forward(frames, starts, counts, keep)
    wide = compute_dtype(frames.dtype)
    pooled = frames.new_empty(len(starts), frames.shape[1])
    summed = torch.empty_like(pooled, dtype=wide) if keep else pooled.new_empty(0, dtype=wide)
    if native.levels()[0] and native.takes(frames):
        _pool_native(frames, starts, counts, pooled, summed)
    else:
        _pool_steps(frames, starts, counts, pooled, summed)
    return pooled, summed


def _pool_native(
    frames: Tensor, starts: Tensor, counts: Tensor, pooled: Tensor, summed: Tensor
) -> None:
    """Threads take runs of clips as they come to them: some clips are longer than others."""
    starts, counts = starts.long().contiguous(), counts.long().contiguous()
    arguments = native.Pooling(
        **native.layout(frames),
        rows=len(frames),
        smallest=smallest(summed.dtype),
        noise=noise(summed.dtype),
        frames=frames.data_ptr(),
        pooled=pooled.data_ptr(),
        **native.pointers(starts=starts, counts=counts),
        **(native.pointers(sums=summed) if summed.numel() else {}),
    )
    runs = RUNS * torch.get_num_threads() if frames.numel() > ALONE else 1
    cuts = [len(counts) * run // runs for run in range(runs + 1)]
    spans = itertools.pairwise(cuts)
    stops = native.together("pool", [[native.Task(arguments, *span)] for span in spans])
    if stops != [[cut] for cut in cuts[1:]]:
        raise _beyond(frames)


def _beyond(frames: Tensor) -> C4CError:
    return C4CError(f"{OP}: clips reach beyond the {len(frames)} frames; fix the offsets.")


def _pool_steps(
    frames: Tensor, starts: Tensor, counts: Tensor, pooled: Tensor, summed: Tensor
) -> None:
    """The same in torch: three passes over frames that stay in the cache."""
    if bool(((starts < 0) | (counts < 0) | (counts > len(frames) - starts)).any()):
        raise _beyond(frames)
    pooled.zero_()
    summed.zero_()
    wide = summed.dtype
    room = pooled.new_empty(0, dtype=wide)
    for clips, ids, _ in _steps(starts, counts, frames.shape[1]):
        if not len(ids):
            continue
        # The same memory at every step, so that it stays in the cache.
        room = room if len(room) >= len(ids) else room.new_empty(len(ids), frames.shape[1])
        rows = room[: len(ids)].copy_(_take(frames, ids))
        sums = _sum_units(rows, counts[clips])
        pooled[clips] = sums * _inverse(sums, cancelled(wide, counts[clips], rows.shape[1]))
        if summed.numel():
            summed[clips] = sums


def _sum_units(rows: Tensor, counts: Tensor) -> Tensor:
    """The sums [n, D] of the unit vectors of ``rows`` [M, D], ``counts`` [n] rows to each."""
    scale = _inverse(rows, smallest(rows.dtype))[:, 0]
    # One pass that scales and adds; int32 is the quicker kind of index there.
    order = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
    begins = (counts.cumsum(0) - counts).int()
    return torch.nn.functional.embedding_bag(
        order, rows, begins, mode="sum", per_sample_weights=scale
    )


@_pool.register_fake
def _(frames: Tensor, starts: Tensor, counts: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    shape = (starts.shape[0], frames.shape[1])
    summed = frames.new_empty(shape if keep else 0, dtype=compute_dtype(frames.dtype))
    return frames.new_empty(shape), summed


@torch.library.custom_op("c4c::masked_mean_pool_backward", mutates_args=())
def _pool_backward(
    grad: Tensor, frames: Tensor, starts: Tensor, counts: Tensor, summed: Tensor
) -> Tensor:
    """The gradient of the frames [F, D]: each normalisation drops the part along itself."""
    shape = (len(starts), frames.shape[1])
    if grad.shape != shape or summed.shape != shape:
        raise C4CError(f"{OP}: gradient {list(grad.shape)} and sums are not {list(shape)}.")
    if use_triton(grad, frames):
        from c4c.kernels.pool.triton import pool_backward

        return pool_backward(grad, frames, starts, counts, summed)
    wide, dim = summed.dtype, frames.shape[1]
    upstream = _through_unit(grad.to(wide), summed, cancelled(wide, counts, dim))
    out = torch.zeros_like(frames, memory_format=torch.contiguous_format)
    for clips, ids, bags in _steps(starts, counts, dim):
        rows = _take(frames, ids).to(wide)
        step = _through_unit(upstream[clips][bags], rows, smallest(wide))
        out.index_copy_(0, ids, step.to(frames.dtype))
    return out


@_pool_backward.register_fake
def _(grad: Tensor, frames: Tensor, starts: Tensor, counts: Tensor, summed: Tensor) -> Tensor:
    return frames.new_empty(frames.shape)


def _setup_context(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: tuple[Tensor, Tensor]
) -> None:
    ctx.save_for_backward(*inputs[:3], output[1])
    ctx.kept = inputs[3]


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
    frames, starts, counts, summed = ctx.saved_tensors
    if not ctx.kept:  # somebody called the operator itself, and wants a gradient after all
        _, summed = torch.ops.c4c.masked_mean_pool(frames, starts, counts, True)
    gradient = torch.ops.c4c.masked_mean_pool_backward(grad, frames, starts, counts, summed)
    return gradient, None, None, None


_pool.register_autograd(_backward, setup_context=_setup_context)


def _inverse(x: Tensor, nothing: Tensor | float) -> Tensor:
    """One over the norm of each row of ``x`` [M, D], [M, 1]; 0 up to the norm ``nothing``."""
    norm = torch.linalg.vector_norm(x, dim=1)
    return torch.where(norm > nothing, 1 / norm, 0.0)[:, None]


def _through_unit(grad: Tensor, x: Tensor, nothing: Tensor | float) -> Tensor:
    """The gradient of ``x`` [M, D], given that of ``x / |x|``; 0 up to the norm ``nothing``."""
    scale = _inverse(x, nothing)
    unit = x * scale
    along = (unit * grad).sum(1, keepdim=True)
    return (grad - unit * along) * scale


def _take(frames: Tensor, ids: Tensor) -> Tensor:
    """The rows ``ids`` (ascending) of ``frames``: a view where they are neighbours."""
    if not len(ids):
        return frames[:0]
    first, last = int(ids[0]), int(ids[-1])
    return frames[first : last + 1] if last - first + 1 == len(ids) else frames[ids]


def _steps(starts: Tensor, counts: Tensor, dim: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Runs of clips whose frames fit in the cache: (clips, row ids [M], clip of each [M])."""
    limit = max(1, CHUNK_BYTES // (4 * max(dim, 1)))
    ends = counts.cumsum(0)
    low = 0
    while low < len(counts):
        done = ends[low - 1] if low else 0
        high = max(low + 1, int(torch.searchsorted(ends, done + limit, right=True)))
        clips = slice(low, high)
        bags = torch.repeat_interleave(counts[clips])
        within = torch.arange(len(bags), device=bags.device)
        shift = starts[clips] - (ends[clips] - counts[clips] - done)
        yield clips, within + shift[bags], bags
        low = high
