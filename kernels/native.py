"""The compiled part of the CPU paths (csrc/native.c), where it was built and can run.

Loaded with ctypes: plain functions, Python's lock released while they run. It is built when
c4c is installed and a C compiler is there; elsewhere the paths in torch do the same work.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# What native.c says it is: after an update it must be built again.
VERSION = 1
# The widest rows it takes.
MAX_DIM = 16384
# Types of rows, as native.c numbers them.
KINDS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

_WHAT = ("pool", "build", "search")
_I, _P, _F = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float


class Pooling(ctypes.Structure):
    """Arguments of ``c4c_pool``, as in native.c."""

    _fields_ = [  # noqa: RUF012
        ("frames", _P), ("stride", _I), ("kind", _I), ("dim", _I),
        ("starts", _P), ("counts", _P), ("pooled", _P), ("sums", _P),
    ]  # fmt: skip


class _Work(ctypes.Structure):
    """A share of a task, as in native.c."""

    _fields_ = [  # noqa: RUF012
        ("what", _I), ("lanes", _I), ("arguments", _P), ("first", _I), ("last", _I), ("stop", _I),
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


def together(what: str, tasks: Sequence[tuple[ctypes.Structure, int, int]]) -> list[int]:
    """Do tasks side by side on torch's threads.

    Args:
        what: ``pool``, ``build`` or ``search``.
        tasks: what each works on, and its first and last (exclusive) clip or group.

    Returns:
        Where each stopped: at its last, or earlier for the reason that its C function gives.
    """
    width = lanes()[0 if what == "pool" else 1]
    works = (_Work * len(tasks))()
    for work, (own, first, last) in zip(works, tasks, strict=True):
        work.what, work.lanes, work.first, work.last = _WHAT.index(what), width, first, last
        work.arguments = ctypes.addressof(own)
    found = library()
    assert found is not None
    threads = min(len(tasks), torch.get_num_threads())
    found.c4c_together(_parallel(), _I(threads), works, _I(len(tasks)))
    return [work.stop for work in works]


@cache
def _parallel() -> Any:
    """The function that starts torch's threads; None: there is one thread."""
    home = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return ctypes.CDLL(str(home)).GOMP_parallel
    except (OSError, AttributeError):
        return None
