"""The compiled part of the CPU paths (csrc/native.c), where it was built and can run.

Loaded with ctypes: plain functions, Python's lock released while they run. It is built when
c4c is installed and a C compiler is there; elsewhere the paths in torch do the same work.
"""

import ctypes
import itertools
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

# What native.c says it is: after an update it must be built again.
VERSION = 4
# The widest rows it takes.
MAX_DIM = 16384
# Types of rows, as native.c numbers them.
KINDS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}

# Types of what structures point at; the others are float32, and rows and pooled any of KINDS.
_TYPES = {
    "starts": torch.int64,
    "counts": torch.int64,
    "codes": torch.uint8,
    "words": torch.int8,
    "shift": torch.int32,
    "keys": torch.int64,
}
_WHAT = ("pool", "build", "search")
# What a processor has, from what is done slowest to what is done fastest, and its names.
AVX2, AVX_VNNI, AVX512 = 1, 2, 3
LEVELS = {AVX512: "AVX-512", AVX_VNNI: "AVX-VNNI", AVX2: "AVX2"}
_I, _P, _F = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float


class Pooling(ctypes.Structure):
    """``struct pooling`` of native.c."""

    _fields_ = [  # noqa: RUF012
        ("frames", _P), ("stride", _I), ("kind", _I), ("dim", _I), ("rows", _I),
        ("starts", _P), ("counts", _P), ("pooled", _P), ("sums", _P),
        ("smallest", _F), ("noise", _F),
    ]  # fmt: skip


class Building(ctypes.Structure):
    """``struct building`` of native.c."""

    _fields_ = [  # noqa: RUF012
        ("rows", _P), ("stride", _I), ("kind", _I), ("dim", _I), ("count", _I), ("depth", _I),
        ("mean", _P), ("room", _P), ("room_dim", _I), ("codes", _P), ("scale", _P),
        ("length", _P), ("error", _P), ("mean_norm", _F), ("rounding", _F), ("least", _F),
    ]  # fmt: skip


class Coded(ctypes.Structure):
    """``struct coded`` of native.c."""

    _fields_ = [  # noqa: RUF012
        ("rows", _P), ("stride", _I), ("kind", _I), ("dim", _I), ("depth", _I), ("codes", _P),
        ("scale", _P), ("group_length", _P), ("group_error", _P), ("length", _P), ("error", _P),
    ]  # fmt: skip


class Search(ctypes.Structure):
    """``struct search`` of native.c."""

    _fields_ = [  # noqa: RUF012
        ("count", _I), ("padded", _I), ("queries", _P), ("words", _P), ("shift", _P),
        ("step", _P), ("per_step", _P), ("norm", _P), ("remainder", _P),
        ("k", _I), ("keys", _P), ("gap", _P), ("scored", _I), ("seen", _I), ("most", _I),
        ("in", Coded), ("base", _I), ("centre", _P),
    ]  # fmt: skip


class _Work(ctypes.Structure):
    """``struct work`` of native.c."""

    _fields_ = [  # noqa: RUF012
        ("what", _I), ("level", _I), ("arguments", _P), ("first", _I), ("last", _I), ("stop", _I),
        ("in", ctypes.POINTER(Coded)), ("base", _I), ("centre", _P),
    ]  # fmt: skip


class Task(NamedTuple):
    """What ``together`` is to do: clips or groups ``first`` to ``last - 1``.

    Attributes:
        arguments: the structure that its function takes.
        first: where it begins.
        last: the one after the last.
        coded: what is searched.
        base: the number of its first row.
        centre: address of the queries' products with its mean, float32.
    """

    arguments: ctypes.Structure
    first: int
    last: int
    coded: Coded | None = None
    base: int = 0
    centre: int | None = None


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they were not built, or for another version of c4c."""
    spec = find_spec("c4c.kernels._native")
    if spec is None or spec.origin is None:
        return None
    try:
        found = ctypes.CDLL(spec.origin)
        found.c4c_version.restype = found.c4c_runs.restype = _I
    except (OSError, AttributeError):  # of another machine, or cut short
        return None
    return found if found.c4c_version() == VERSION else None


def runs(what: str, level: int) -> bool:
    """Whether this machine does a task (``pool``, …) in the way of ``level``."""
    found = library()
    return found is not None and bool(found.c4c_runs(_I(_WHAT.index(what)), _I(level)))


@cache
def levels() -> tuple[int, int]:
    """The best of `LEVELS` that this machine has, for pooling and for search; 0: none."""
    pool, search = (
        next((level for level in LEVELS if runs(what, level)), 0) for what in ("pool", "search")
    )
    return pool, search


def most_word() -> int:
    """The largest word of a query: without VNNI, sums of two products must fit in 16 bits."""
    return 63 if levels()[1] == AVX2 else 127


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


def pointers(**tensors: Tensor) -> dict[str, int]:
    """Where tensors lie, once they are known to be what C takes them for.

    Args:
        tensors: under their names in the structure.
    """
    for name, tensor in tensors.items():
        good = tensor.dtype == _TYPES.get(name, torch.float32) and tensor.is_contiguous()
        assert good and tensor.device.type == "cpu", f"{name}: {tensor.dtype} {tensor.device}"
    return {name: tensor.data_ptr() for name, tensor in tensors.items()}


def together(what: str, chains: Sequence[Sequence[Task]]) -> list[list[int]]:
    """Do tasks on torch's threads: chains side by side, those of a chain one after the other.

    Args:
        what: ``pool``, ``build`` or ``search``.
        chains: what is to be done.

    Returns:
        Where each task stopped: at its last, or earlier for the reason that its C function
        gives. Then those behind it in its chain were not begun.
    """
    number, level = _WHAT.index(what), levels()[0 if what == "pool" else 1]
    tasks = [task for chain in chains for task in chain]
    works = (_Work * len(tasks))()
    for work, task in zip(works, tasks, strict=True):
        coded = ctypes.pointer(task.coded) if task.coded else None
        about = number, level, ctypes.addressof(task.arguments), task.first, task.last, task.first
        work.__init__(*about, coded, task.base, task.centre)
    ends = list(itertools.accumulate(map(len, chains)))
    found = library()
    assert found is not None
    threads = min(len(chains), torch.get_num_threads())
    found.c4c_together(_parallel(), _I(threads), works, (_I * len(ends))(*ends), _I(len(chains)))
    return [
        [work.stop for work in works[end - len(chain) : end]]
        for chain, end in zip(chains, ends, strict=True)
    ]


@cache
def _parallel() -> Any:
    """The function that starts torch's threads; None: there is one thread."""
    home = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return ctypes.CDLL(str(home)).GOMP_parallel
    except (OSError, AttributeError):
        return None
