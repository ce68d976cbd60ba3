"""The checks of top-k in gpu.py: the k best of float64, where mistakes hide."""

import itertools

import torch
from gpu_bench import DTYPES, Bench
from gpu_checks import Figures, laid_out, refused, within
from torch import Tensor
from torch.nn.functional import normalize

from c4c.kernels import topk_similarity


def near(queries: Tensor, gallery: Tensor, k: int) -> Figures:
    """The k best of float64, up to swaps of scores that float32 cannot tell apart."""
    scores, rows = topk_similarity(queries, gallery, k)
    real = min(k, len(gallery))
    exact = queries.double() @ gallery.double().T
    lengths = gallery.double().norm(dim=1)[rows[:, :real].clamp(min=0)]
    unit = 2 * queries.shape[1] * torch.finfo(torch.float32).eps
    slack = unit * queries.double().norm(dim=1, keepdim=True) * lengths + 1e-30
    best = exact.topk(real, 1).values
    chosen = exact.gather(1, rows[:, :real].clamp(min=0))
    worst = torch.maximum((chosen - best).abs(), (scores[:, :real] - best).abs()) / slack
    ordered = rows[:, :real].sort(1).values
    apart = bool((ordered.diff(dim=1) > 0).all()) and bool((rows[:, real:] == -1).all())
    return within(worst.max() if apart else torch.nan)


def exactly(queries: Tensor, gallery: Tensor, k: int) -> Figures:
    """Whole numbers have no rounding: scores are equal, and ties go to the lower row."""
    scores, rows = topk_similarity(queries, gallery, k)
    order = (queries.double() @ gallery.double().T).sort(dim=1, descending=True, stable=True)
    real = min(k, len(gallery))
    same = rows[:, :real].equal(order.indices[:, :real])
    return {"ok": same and scores[:, :real].double().equal(order.values[:, :real])}


def check_topk(bench: Bench) -> None:
    """Shapes, dtypes, ties and layouts."""
    bench.machine()
    shapes = (
        (1, bench.size(200_001, 70), bench.size(512, 80), 10),
        (bench.size(300, 5), bench.size(200_000, 140), bench.size(512, 16), 100),
        (bench.size(129, 3), bench.size(20_003, 131), bench.size(500, 21), 10),
        (7, bench.size(30_000, 140), bench.size(33, 17), 1024),
        (5, 3, 64, 10),
    )
    for (name, dtype), (count, total, width, k) in itertools.product(DTYPES.items(), shapes):
        gallery, queries = bench.rows(total, width, dtype), bench.rows(count, width, dtype, 1)
        case = f"{name}, {count} of {total} x {width}, k = {k}"
        bench.case(case, lambda q=queries, g=gallery, k=k: near(q, g, k))
    for name, dtype in DTYPES.items():
        gallery = bench.randn(bench.size(50_000, 120), 24).round().to(dtype)
        gallery[len(gallery) // 2 :] = gallery[: len(gallery) - len(gallery) // 2].clone()
        queries = bench.randn(bench.size(200, 9), 24, seed=1).round().to(dtype)
        bench.case(f"{name}, ties", lambda q=queries, g=gallery: exactly(q, g, 50))
        for layout in ("columns", "every other") if name in bench.kinds(DTYPES) else ():
            two = [laid_out(one, layout) for one in (queries, gallery)]
            bench.case(f"{name}, ties, {layout}", lambda two=two: exactly(*two, 50))
    for one, other in itertools.permutations(DTYPES, 2):
        queries = bench.rows(9, bench.size(64, 16), DTYPES[one], 1)
        gallery = bench.rows(bench.size(40_000, 100), bench.size(64, 16), DTYPES[other])
        bench.case(f"{one} queries, {other} rows", lambda q=queries, g=gallery: near(q, g, 10))


def check_bounds(bench: Bench) -> None:
    """Where bounds do not separate, or one row spoils those of others; and the limits."""
    width = bench.size(64, 16)
    for name, dtype in DTYPES.items():
        rows = bench.rows(bench.size(40_000, 128), width, torch.float32)
        queries = bench.rows(6, width, torch.float32, 1)
        copies = len(rows) // 2
        kinds = {
            "a query of zeros": (
                queries * (torch.arange(6, device=bench.device) != 2)[:, None],
                rows,
            ),
            "near copies": (
                queries,
                torch.cat([rows[copies:], queries[1] + 1e-7 * bench.randn(copies, width, seed=2)]),
            ),
            "a common direction": (queries + 1, normalize(1e-6 * rows + 1, dim=1)),
            "one long row": (queries, torch.cat([rows, 1000 * rows[:1]])),
        }
        for kind, (some, gallery) in kinds.items():
            two = some.to(dtype), gallery.to(dtype)
            bench.case(f"{name}, {kind}", lambda two=two: near(*two, 10))
    long = 1e5 * bench.randn(bench.size(5000, 80), 16)
    bench.case(
        "fp16 queries, values that it does not hold",
        lambda: near(bench.randn(3, 16, seed=1).half(), long, 5),
    )
    check_limits(bench)


def check_limits(bench: Bench) -> None:
    """Rows that are no numbers, far rows, portions of queries, repetition, a second GPU."""
    gallery = bench.rows(bench.size(100_000, 230), 64, torch.float16)
    queries = bench.rows(4, 64, torch.float16, 1)
    spoilt, odd = gallery.clone(), queries.clone()
    spoilt[222, 3], odd[1, 0] = torch.nan, torch.inf
    none = gallery[:0]
    bench.case("no rows", lambda: {"ok": bool((topk_similarity(queries, none, 2)[1] == -1).all())})
    bench.case(
        "a row of NaN", lambda: refused("row 222 ", lambda: topk_similarity(queries, spoilt, 3))
    )
    bench.case(
        "a query of infinity", lambda: refused("query 1 ", lambda: topk_similarity(odd, gallery, 3))
    )

    def again() -> Figures:
        first, second = (topk_similarity(queries, gallery, 10) for _ in range(2))
        return {"ok": first[0].equal(second[0]) and first[1].equal(second[1])}

    bench.case("twice the same bits", again)

    def far() -> Figures:
        """Rows that begin beyond 2**31 values."""
        many = torch.zeros(bench.size(4_500_000, 140), bench.size(512, 16), device=bench.device)
        many = many.half()
        many[-3:] = bench.rows(3, many.shape[1], torch.float16)
        found = topk_similarity(many[-3:].clone(), many, 1)[1][:, 0].tolist()
        return {"ok": found == [len(many) - 3, len(many) - 2, len(many) - 1]}

    bench.case("rows beyond 2**31 values", far)

    def portions() -> Figures:
        some = bench.rows(bench.size(5000, 20), 64, torch.float16, 3)
        many = bench.rows(bench.size(600_000, 140), 64, torch.float16, 4)
        found = topk_similarity(some, many, 10)
        alone = [topk_similarity(part, many, 10) for part in some[:: len(some) // 5].split(1)]
        rows = torch.cat([one[1] for one in alone])
        return {"ok": found[1][:: len(some) // 5].equal(rows)}

    bench.case("queries in portions", portions)
    if bench.rehearse or torch.cuda.device_count() < 2:
        bench.case("on a second GPU", lambda: {"skipped": "one device"})
    else:
        with torch.cuda.device(0):
            two = queries.to("cuda:1"), gallery.to("cuda:1")
            bench.case("on a second GPU", lambda: near(*two, 10))


CHECKS = {"checks of top-k": check_topk, "checks of bounds": check_bounds}
