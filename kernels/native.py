"""The compiled part of the CPU paths (native/native.c), where it was built and this machine runs it.

Loaded with ctypes: plain functions, Python's lock released while they run. It is built when
c4c is installed and a C compiler is there; elsewhere the paths in torch do the same work.
"""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
# What native.c says it is: after an update it must be built again.
VERSION = 1
# The widest rows it takes.
MAX_DIM = 16384
# Types of rows, as native.c numbers them.
KINDS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

_I, _P, _F = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float


class Pooling(ctypes.Structure):
    """Arguments of ``c4c_pool``, as in native.c."""

    _fields_ = [  # noqa: RUF012
        ("frames", _P), ("stride", _I), ("kind", _I), ("dim", _I),
        ("starts", _P), ("counts", _P), ("pooled", _P), ("sums", _P),
    ]  # fmt: skip


class Building(ctypes.Structure):
    """Arguments of ``c4c_build``, as in native.c."""

    _fields_ = [  # noqa: RUF012
        ("rows", _P), ("stride", _I), ("kind", _I), ("dim", _I), ("count", _I), ("depth", _I),
        ("mean", _P), ("room", _P), ("room_dim", _I), ("codes", _P), ("scale", _P),
        ("length", _P), ("error", _P), ("mean_norm", _F), ("rounding", _F), ("least", _F),
    ]  # fmt: skip


class Search(ctypes.Structure):
    """Arguments and state of ``c4c_search``, as in native.c."""

    _fields_ = [  # noqa: RUF012
        ("rows", _P), ("stride", _I), ("kind", _I), ("dim", _I), ("depth", _I),
        ("codes", _P), ("scale", _P), ("group_length", _P), ("group_error", _P),
        ("length", _P), ("error", _P),
        ("count", _I), ("padded", _I), ("queries", _P), ("words", _P), ("shift", _P),
        ("step", _P), ("per_step", _P), ("norm", _P), ("remainder", _P), ("centre", _P),
        ("k", _I), ("keys", _P), ("gap", _P), ("scored", _I), ("seen", _I), ("most", _I),
    ]  # fmt: skip


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they were not built, or for another version of c4c."""
    spec = find_spec("c4c.kernels._native")
    if spec is None or spec.origin is None:
        return None
    found = ctypes.CDLL(spec.origin)
    found.c4c_version.restype = _I
    for name in ("c4c_pool", "c4c_build", "c4c_search"):
        getattr(found, name).restype = _I
    return found if found.c4c_version() == VERSION else None


@cache
def lanes() -> tuple[int, int]:
    """Floats in a vector of this machine, 16 or 8, for pooling and for search; 0: not here."""
    pool, search = _I(), _I()
    found = library()
    if found is not None:
        found.c4c_lanes(ctypes.byref(pool), ctypes.byref(search))
    return pool.value, search.value


def takes(rows: Tensor) -> bool:
    """Whether compiled functions can read these rows [N, D] where they lie."""
    return (
        rows.device.type == "cpu"
        and rows.dtype in KINDS
        and 0 < rows.shape[1] <= MAX_DIM
        and (rows.stride(1) == 1 or rows.shape[1] == 1)
    )


def layout(rows: Tensor) -> dict[str, int]:
    """How rows [N, D] lie: bytes from one to the next, their type and their width."""
    stride = rows.stride(0) * rows.element_size()
    return {"stride": stride, "kind": KINDS[rows.dtype], "dim": rows.shape[1]}


def pool(arguments: Pooling, first: int, last: int) -> None:
    """Pool the clips ``first`` to ``last - 1``."""
    _call("c4c_pool", lanes()[0], arguments, first, last)


def build(arguments: Building, first: int, last: int) -> int:
    """Make the groups from ``first`` on; where it stopped: a row there is not finite."""
    return _call("c4c_build", lanes()[1], arguments, first, last)


def search(state: Search, first: int, last: int) -> int:
    """Search the groups from ``first`` on; how far it went: the bounds may prune too little."""
    return _call("c4c_search", lanes()[1], state, first, last)


def _call(name: str, width: int, arguments: ctypes.Structure, first: int, last: int) -> int:
    found = library()
    assert found is not None
    return int(getattr(found, name)(_I(width), ctypes.byref(arguments), _I(first), _I(last)))


def in_threads(works: Sequence[Callable[[], T]]) -> list[T]:
    """The results of ``works``, run at once on as many threads as torch uses."""
    threads = min(len(works), torch.get_num_threads())
    if threads < 2:
        return [work() for work in works]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda work: work(), works))
