"""The checks of gpu.py but for top-k: the definitions in float64, where mistakes hide."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from gpu_bench import DTYPES, HALVES, Bench
from torch import Tensor

from c4c.core.errors import C4CError
from c4c.kernels import contrastive_loss, ground_truth_ranks, masked_mean_pool
from c4c.kernels.contrastive import triton as contrastive_triton
from c4c.kernels.contrastive.naive import contrastive_loss_reference
from c4c.kernels.pool.naive import masked_mean_pool_reference

# One rounding to the dtype of a number around one.
EPSILON = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 1e-6}
SCALE = 50.0

Figures = dict[str, Any]


def within(worst: float | Tensor, limit: float = 1.0, **more: Any) -> Figures:
    """A check that holds up to ``limit``; NaN is no number that is."""
    return {"ok": bool(worst <= limit), "worst": float(f"{float(worst):.3g}"), **more}


def refused(words: str, call: Callable[[], object]) -> Figures:
    """Whether ``call`` raises a C4CError that says these words."""
    try:
        call()
    except C4CError as error:
        return {"ok": words in str(error), "said": str(error)[:200]}
    return {"ok": False, "said": ""}


def laid_out(matrix: Tensor, layout: str) -> Tensor:
    """The same matrix with other strides."""
    if layout == "columns":
        return matrix.T.contiguous().T
    wide = matrix.new_full((2 * matrix.shape[0], 2 * matrix.shape[1]), torch.nan)
    wide[::2, ::2] = matrix
    return wide[::2, ::2]


def expected_ranks(queries: Tensor, gallery: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest rank that rounding in float64 leaves open."""
    exact = queries.double() @ gallery.double().T
    own = exact.gather(1, right[:, None])
    slack = 1e-14 * queries.shape[1] * queries.double().norm(dim=1, keepdim=True)
    slack = slack * gallery.double().norm(dim=1).max()
    return 1 + (exact > own + slack).sum(1), (exact >= own - slack).sum(1)


def check_ranks(bench: Bench) -> None:
    """Ties, near ties, dtypes, odd shapes, sets of right rows, NaN."""
    for name, dtype in DTYPES.items():
        for width in (bench.size(512, 24), bench.size(500, 21)):
            gallery = bench.rows(bench.size(100_000, 130), width, dtype)
            queries = bench.rows(bench.size(300, 5), width, dtype, 1)
            right = torch.arange(len(queries), device=bench.device)

            def between(q: Tensor = queries, g: Tensor = gallery, right: Tensor = right) -> Figures:
                low, high = expected_ranks(q, g, right)
                ranks = ground_truth_ranks(q, g, right)
                outside = (ranks < low) | (ranks > high)
                return {"ok": not bool(outside.any()), "outside": int(outside.sum())}

            bench.case(f"{name}, width {width}", between)
        gallery = bench.randn(bench.size(20_000, 100), 12).round().to(dtype)
        queries = bench.randn(bench.size(150, 5), 12, seed=1).round().to(dtype)

        def ties(q: Tensor = queries, g: Tensor = gallery) -> Figures:
            right = [{3 * i, 3 * i + 7} for i in range(len(q))]
            exact = q.double() @ g.double().T
            own = torch.stack([exact[i, sorted(one)].max() for i, one in enumerate(right)])
            hits = torch.stack([(exact[i, sorted(s)] == own[i]).sum() for i, s in enumerate(right)])
            above, equal = (exact > own[:, None]).sum(1), (exact == own[:, None]).sum(1) - hits
            expected = above + (hits + equal + 1).double() / (hits + 1)
            return {"ok": ground_truth_ranks(q, g, right).equal(expected)}

        bench.case(f"{name}, ties and sets", ties)
    spoilt = bench.randn(100, 16)
    spoilt[7, 3] = torch.nan
    some = bench.randn(3, 16, seed=1)
    bench.case("NaN", lambda: refused("NaN", lambda: ground_truth_ranks(some, spoilt, [0, 1, 2])))


def check_pool(bench: Bench) -> None:
    """Padding of NaN, empty clips, zeros, frames that cancel, clips beyond, gradients."""
    for (name, dtype), width in itertools.product(
        DTYPES.items(), (bench.size(512, 32), bench.size(500, 21))
    ):
        frames = (bench.randn(bench.size(997, 4), 13, width) + 2).to(dtype)
        lengths = 7 * torch.arange(len(frames), device=bench.device) % 14
        for clip, length in enumerate(lengths.tolist()):
            frames[clip, length:] = torch.nan
        frames[1, :7] = 0  # all that it has
        two = frames, lengths
        bench.case(f"{name}, width {width}", lambda two=two: pooled(*two))
    half = bench.randn(6, bench.size(512, 16)).half()
    both = torch.cat([half, -half])
    offsets = torch.tensor([0, 12], device=bench.device)
    bench.case(
        "frames that cancel",
        lambda: {"ok": not bool(masked_mean_pool(both, offsets=offsets).any())},
    )
    beyond = torch.tensor([0, 6, 20], device=bench.device)

    def outside() -> Figures:
        found = masked_mean_pool(both, offsets=beyond)
        return {"ok": bool(torch.isnan(found[1]).all()) and not bool(torch.isnan(found[0]).any())}

    if not bench.rehearse:  # on a CPU it is an error
        bench.case("a clip beyond the frames", outside)

        def far() -> Figures:
            many = torch.ones(4_300_000, 512, device=bench.device, dtype=torch.float16)
            many[-12:] = bench.randn(12, 512).half()
            ends = torch.tensor([0, len(many) - 12, len(many)], device=bench.device)
            last = masked_mean_pool(many[-12:].double(), offsets=torch.tensor([0, 12]))
            found = masked_mean_pool(many, offsets=ends)
            return within((found[1].double() - last[0]).abs().max() / 2e-3)

        bench.case("frames beyond 2**31 values", far)


def pooled(frames: Tensor, lengths: Tensor) -> Figures:
    """Values and gradients against the definition in float64."""
    own, exact = frames.clone().requires_grad_(), frames.double().requires_grad_()
    found, expected = masked_mean_pool(own, lengths), masked_mean_pool_reference(exact, lengths)
    weights = torch.sin(torch.arange(expected.numel(), device=frames.device)).view_as(expected)
    (found * weights.to(found.dtype)).sum().backward()
    (expected * weights.to(found.dtype)).sum().backward()
    assert own.grad is not None and exact.grad is not None
    rounding = EPSILON[frames.dtype]
    forward = (found - expected).abs().max() / (2 * rounding)
    size = exact.grad.abs().max().clamp(min=1.0)
    backward = (own.grad - exact.grad).abs().max() / (8 * rounding * size)
    return within(max(float(forward), float(backward)))


def check_loss(bench: Bench) -> None:
    """Values and gradients, by one strip and several, and the product of halves in float32."""
    batches = (1, bench.size(33, 5), bench.size(1000, 12), bench.size(5001, 40))
    for (name, dtype), batch in itertools.product(DTYPES.items(), batches):
        width = bench.size(512, 24) if batch % 2 else bench.size(500, 21)
        two = bench.rows(batch, width, dtype), bench.rows(batch, width, dtype, 1)
        bench.case(f"{name}, {batch} x {width}", lambda two=two: losses(*two))
        spread = [laid_out(one, "every other") for one in two]
        bench.case(f"{name}, {batch} x {width}, every other", lambda two=spread: losses(*two))
    for name, dtype in HALVES.items():
        one = bench.randn(bench.size(515, 20), bench.size(333, 7)).to(dtype)
        other = bench.randn(bench.size(333, 7), bench.size(77, 5), seed=1).to(dtype)
        for kind, two in {"": (one, other), " turned": (other.T, one.T)}.items():
            bench.case(f"{name}, a product{kind}", lambda two=two: product(*two))
    two = (
        bench.rows(bench.size(700, 20), 64, torch.float16),
        bench.rows(bench.size(700, 20), 64, torch.float16, 1),
    )

    def without() -> Figures:
        kept = contrastive_triton.sums_wide
        contrastive_triton.sums_wide = lambda device: False  # as where torch lacks it
        try:
            return losses(*two)
        finally:
            contrastive_triton.sums_wide = kept

    bench.case("fp16, where torch does not sum halves in float32", without)


def product(one: Tensor, other: Tensor) -> Figures:
    """The product of the strips: as exact as sums in float32 of halves that are not rounded."""
    found, exact = contrastive_triton._product(one, other), one.double() @ other.double()
    slack = one.shape[1] * 1e-7 * (one.double().abs() @ other.double().abs())
    worst = ((found - exact).abs() / slack).max()
    wide = contrastive_triton.sums_wide(one.device)
    return within(worst if found.dtype == torch.float32 else torch.nan, by_torch=wide)


def losses(text: Tensor, video: Tensor) -> Figures:
    """Values and gradients against the definition in float64."""
    scale = torch.tensor(SCALE, device=text.device)
    own = [one.clone().requires_grad_() for one in (text, video, scale)]
    exact = [one.double().requires_grad_() for one in (text, video, scale)]
    found, expected = contrastive_loss(*own), contrastive_loss_reference(*exact)
    found.backward()
    expected.backward()
    value = (found - expected).abs() / (1e-5 * expected.abs().clamp(min=1.0))
    # Probabilities are rounded to the dtype, and multiplied by the scale.
    limit = 4 * EPSILON[text.dtype] * SCALE / len(text) + 1e-6
    gradients = [
        (a.grad - b.grad).abs().max() / limit
        for a, b in zip(own, exact, strict=True)
        if a.grad is not None and b.grad is not None
    ]
    assert len(gradients) == 3
    return within(max(float(one) for one in [value, *gradients]), loss=float(found))


CHECKS = {
    "checks of ranks": check_ranks,
    "checks of pooling": check_pool,
    "checks of the loss": check_loss,
}
