"""What a call of each kernel asks of a GPU: operations, waits and bytes, counted without one.

The code that runs on a GPU is run in Triton's interpreter, at small sizes and with the limits
that cut a call into portions set so that there are one or several. Every operation of torch and
every Triton kernel that it starts is counted, and every time that the program must wait for a
number, with the bytes of what each reads and writes. How these grow is then solved for, exactly,
from as many runs as there are unknowns, and given for real sizes. What stands under "estimate" is
arithmetic on that: nothing has run on a GPU.

An operation of torch may launch more than one kernel (a top-k of long rows, or nonzero), so
launches are at least these. Data are random; rows that tie or bounds that do not separate cost
more.

    python benchmarks/launches.py
"""

import os

os.environ["TRITON_INTERPRET"] = "1"

import itertools  # noqa: E402
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import click
import numpy as np
import torch
import triton.runtime.interpreter as interpreter
from figures import json_option, keep
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from c4c.kernels import contrastive_loss, ground_truth_ranks, topk_similarity
from c4c.kernels.contrastive import op as contrastive_op
from c4c.kernels.contrastive import triton as contrastive_triton
from c4c.kernels.pool import op as pool_op
from c4c.kernels.ranks import op as ranks_op
from c4c.kernels.topk import op as topk_op
from c4c.kernels.topk import quick
from c4c.kernels.topk import triton as topk_triton

D, K = 512, 10
# What an H100 is assumed to reach: products of halves, memory, a launch, a wait.
FLOPS, BYTES, LAUNCH, WAIT = 400e12, 2.8e12, 4e-6, 15e-6
# Operations that wait until the GPU has said how much there is.
WAITS = {
    "_local_scalar_dense": 1, "nonzero": 1, "masked_select": 1, "_unique2": 1, "unique_dim": 1,
    "unique_consecutive": 1, "bincount": 2, "repeat_interleave": 1, "equal": 1,
}  # fmt: skip
# Operations that make room and start nothing.
ROOM = ("empty", "new_empty", "empty_like", "empty_strided")
# The operators of c4c, looked into and not counted as one.
INSIDE = {
    "c4c::topk_similarity": topk_op._topk,
    "c4c::rank_counts": ranks_op._rank_counts,
    "c4c::masked_mean_pool": pool_op._pool,
    "c4c::masked_mean_pool_backward": pool_op._pool_backward,
    "c4c::contrastive_loss": contrastive_op._loss,
    "c4c::contrastive_gradient": contrastive_op._gradient,
}


@dataclass
class Counts(TorchDispatchMode):
    """What is started while this is on."""

    kernels: int = 0
    operations: int = 0
    waits: int = 0
    bytes: float = 0.0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Count one operation, and do it."""
        name = function._schema.name
        if name in INSIDE:
            with self:
                return INSIDE[name]._init_fn(*args, **(kwargs or {}))
        result = function(*args, **(kwargs or {}))
        short = name.removeprefix("aten::")
        view = any(
            one.alias_info is not None and not one.alias_info.is_write
            for one in function._schema.returns
        )
        if not view and short not in ROOM:
            self._operation(short, args, kwargs or {}, result)
        return result

    def _operation(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        mask = name in ("index", "index_put", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        self.waits += WAITS.get(name, 0) + mask
        read = _tensors((args, kwargs))
        if name == "index" or name.endswith("_like"):  # chosen rows only; a shape only
            read = read[1:]
        moved = {(one.data_ptr(), one.shape): one for one in [*read, *_tensors(result)]}
        self.bytes += sum(one.numel() * one.element_size() for one in moved.values())
        if name != "_local_scalar_dense":  # a copy, not a kernel
            self.operations += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count Triton's kernels too, all of which start in ``run``, and the library's product."""
        inner = interpreter.InterpretedFunction.run
        product = contrastive_triton._product

        def run(kernel: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
            self.kernels += 1
            self.bytes += kernel_bytes(dict(zip(kernel.arg_names, args, strict=False)))
            with _disable_current_modes():
                return inner(kernel, *args, grid=grid, warmup=warmup, **options)

        def multiply(one: Tensor, other: Tensor) -> Tensor:
            with _disable_current_modes():  # a CPU widens halves first
                result = product(one, other)
            self.operations += 1
            self.bytes += sum(x.numel() * x.element_size() for x in (one, other, result))
            return result

        with (
            patch.object(interpreter.InterpretedFunction, "run", run),
            patch.object(contrastive_triton, "_product", multiply),
            self,
        ):
            yield


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, tuple | list):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def kernel_bytes(arguments: dict[str, Any]) -> float:
    """What a Triton kernel must read and write: each tensor once, but chosen rows only."""
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    if "chosen" in tensors:  # of the gallery, the rows of chosen groups
        gallery = tensors.pop("gallery")
        rows = len(tensors["who"]) * arguments["columns"]
        tensors["rows"] = gallery.new_empty(rows, gallery.shape[1])
    if "cosines" in tensors:  # what is given from the strip's first row on
        tensors["rows"] = tensors["rows"][: arguments["count"]]
    return float(sum(one.numel() * one.element_size() for one in tensors.values()))


def counted(call: Callable[[], object]) -> np.ndarray[Any, Any]:
    """Kernels, operations, waits and bytes of a call."""
    counts = Counts()
    with counts.counting():
        call()
    return np.array([counts.kernels, counts.operations, counts.waits, counts.bytes])


def rows(count: int, seed: int = 0, dtype: torch.dtype = torch.float16) -> Tensor:
    """Random unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, D, generator=generator), dim=1).to(dtype)


@dataclass
class Growth:
    """How counts grow with sizes.

    Attributes:
        terms: of sizes, each a number that a count may be proportional to.
        call: of sizes, a call to count.
        sizes: small ones; at least as many as terms.
    """

    terms: Callable[..., list[float]]
    call: Callable[..., Callable[[], object]]
    sizes: list[tuple[int, ...]]

    def __post_init__(self) -> None:
        """Count at small sizes, and find what each term costs.

        Raises:
            AssertionError: counts do not grow as the terms do.
        """
        left = np.array([self.terms(*size) for size in self.sizes], dtype=float)
        right = np.array([counted(self.call(*size)) for size in self.sizes])
        self.costs = np.linalg.lstsq(left, right, rcond=None)[0]
        # A few bytes depend on which rows happen to be close.
        assert np.allclose(left @ self.costs, right, rtol=0.01, atol=1e-3), right

    def at(self, *size: int) -> dict[str, float]:
        """The counts at real sizes."""
        names = ("kernels", "operations", "waits", "bytes")
        values = np.array(self.terms(*size), dtype=float) @ self.costs
        return dict(zip(names, [*values[:3].round(), values[3]], strict=True))


def search(queries: int, total: int, portions: int) -> Callable[[], object]:
    """A search whose queries are cut into so many portions."""
    two = rows(queries, 1), rows(total)

    def call() -> None:
        with patch.object(topk_triton, "queries_at_a_time", lambda groups: queries // portions):
            topk_similarity(*two, K)

    return call


def search_wide(queries: int, total: int) -> Callable[[], object]:
    """A search of float32 rows that are rounded for the first pass, as many a time as a million."""
    two = rows(queries, 1, torch.float32), rows(total, 0, torch.float32)
    times = -(-1_000_000 * D // quick.AT_ONCE)

    def call() -> None:
        with patch.multiple(quick, COPIED=0, AT_ONCE=-(-total // times) * D):
            topk_similarity(*two, K)

    return call


def ranking(queries: int, total: int) -> Callable[[], object]:
    """Ranks; the right rows are on the GPU."""
    two, right = (rows(queries, 1), rows(total)), torch.arange(queries)
    return lambda: ground_truth_ranks(*two, right)


def pooling(clips: int, gradients: int) -> Callable[[], object]:
    """Packed clips of 12 frames; offsets that are on a GPU are not looked at."""
    frames = rows(12 * clips).requires_grad_(bool(gradients))
    offsets = torch.arange(0, len(frames) + 1, 12)

    def call() -> None:
        owned = offsets[:-1], offsets.diff()
        pooled = torch.ops.c4c.masked_mean_pool(frames, *owned, bool(gradients))[0]
        if gradients:
            pooled.backward(pooled.detach())

    return call


def losses(batch: int, strips: int, gradients: int) -> Callable[[], object]:
    """The loss of a batch in so many strips."""
    text, video = (rows(batch, seed).requires_grad_(bool(gradients)) for seed in (1, 2))
    scale = torch.tensor(50.0)

    def call() -> None:
        with patch.object(contrastive_triton, "STRIP", batch * (batch // strips)):
            loss = contrastive_loss(text, video, scale)
            if gradients:
                loss.backward()

    return call


Case = tuple[str, dict[str, float], float]


def searches() -> Iterator[Case]:
    """Name, counts and useful operations of top-k, at the sizes that are told."""
    few = Growth(
        lambda q, n, p: [1, q, n, q * n],
        search,
        list(itertools.product((1, 2, 4), (512, 1024), (1,))),
    )
    many = Growth(
        lambda q, n, p: [1, q, n, q * n, p, p * n],
        search,
        list(itertools.product((6, 8), (1024, 2048), (1, 2))),
    )
    total, groups = 1_000_000, -(-1_000_000 // topk_triton.group_size(K))
    for queries in (1, 1000, 59_800):
        growth = few if queries <= topk_triton.FEW else many
        portions = -(-queries // topk_triton.queries_at_a_time(groups))
        counts = growth.at(queries, total, portions)
        yield f"top-k, Q = {queries:,}, N = 10⁶", counts, 2.0 * queries * total * D
    wide = Growth(
        lambda q, n: [1, q, n, q * n], search_wide, list(itertools.product((6, 8), (1024, 2048)))
    )
    counts = wide.at(1000, total)
    yield "top-k, float32, Q = 1,000, N = 10⁶", counts, 2.0 * 1000 * total * D


def others() -> Iterator[Case]:
    """The same of ranks, pooling and the loss."""
    counting = Growth(
        lambda q, n: [1, q, n, q * n], ranking, list(itertools.product((4, 6, 8), (1024, 2048)))
    )
    for queries, total in ((1000, 1_000_000), (59_800, 59_800)):
        found = counting.at(queries, total)
        yield f"ranks, Q = {queries:,}, N = {total:,}", found, 2.0 * queries * total * D
    for gradients, name in enumerate(("forward", "with gradients")):
        pools = Growth(lambda n, g: [1, n], pooling, [(n, gradients) for n in (3, 5, 8)])
        yield f"pool, 10⁶ × 12, {name}", pools.at(1_000_000, gradients), 0.0
    sizes = [(batch, strips) for batch in (32, 64, 96) for strips in (1, 2)]
    for gradients, name in enumerate(("forward", "with gradients")):
        loss = Growth(
            lambda b, s, g: [1, b, b * b, s, s * b], losses, [(*size, gradients) for size in sizes]
        )
        for batch in (1024, 16_384):
            strips = -(-batch // max(1, contrastive_triton.STRIP // batch))
            products = 2.0 * (3 if gradients else 1) * batch * batch * D
            yield f"loss, {batch:,} pairs, {name}", loss.at(batch, strips, gradients), products


def estimate(counts: dict[str, float], flops: float) -> float:
    """Milliseconds: launches run ahead of the GPU, waits do not."""
    launches = counts["kernels"] + counts["operations"]
    busy = max(flops / FLOPS, counts["bytes"] / BYTES, launches * LAUNCH)
    return 1e3 * (busy + counts["waits"] * WAIT)


def row(name: str, counts: dict[str, float], flops: float) -> str:
    """A line of the table."""
    return (
        f"| {name} | {counts['kernels']:.0f} | {counts['operations']:.0f} | "
        f"{counts['waits']:.0f} | {counts['bytes'] / 1e9:.3g} | {estimate(counts, flops):.2g} |"
    )


@click.command()
@json_option
def main() -> None:
    """Print the table."""
    print(f"fp16, D = {D}, k = {K}")
    print("| call | kernels | operations of torch | waits | GB | estimate, ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, counts, flops in itertools.chain(searches(), others()):
        keep({"call": name, **counts, "FLOP": flops, "estimated ms": estimate(counts, flops)})
        print(row(name, counts, flops), flush=True)


if __name__ == "__main__":
    main()
