"""Which path an operation takes, and the checks that all public functions share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from c4c.core.errors import C4CError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@cache
def triton_installed() -> bool:
    """Whether the Triton package is there (it has wheels for Linux only)."""
    return find_spec("triton") is not None


def interpreted() -> bool:
    """Whether Triton kernels run in its interpreter, on tensors of the CPU (for tests)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def use_triton(*tensors: Tensor) -> bool:
    """Whether the Triton kernel takes these tensors: on a GPU, and not in float64."""
    if any(t.dtype == torch.float64 for t in tensors) or not triton_installed():
        return False
    return all(t.is_cuda for t in tensors) or interpreted()


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type sums are made in: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def check_matrix(op: str, name: str, value: object, dims: int = 2) -> Tensor:
    """``value`` as a floating-point tensor of ``dims`` dimensions.

    Raises:
        C4CError: it is something else; the message names ``op`` and ``name``.
    """
    if not isinstance(value, Tensor):
        raise C4CError(f"{op}: {name} is a {type(value).__name__}; pass a torch tensor.")
    if value.dim() != dims:
        raise C4CError(f"{op}: {name} has shape {list(value.shape)}; expected {dims} dimensions.")
    if value.dtype not in FLOATS:
        raise C4CError(f"{op}: {name} has dtype {value.dtype}; expected one of {_names(FLOATS)}.")
    return value


def check_same(op: str, what: str, one: object, other: object, remedy: str) -> None:
    """Raise a C4CError unless ``one == other``, with what to do about it."""
    if one != other:
        raise C4CError(f"{op}: {what} differ ({one} and {other}); {remedy}.")


@contextmanager
def launching(op: str, shape: str) -> Iterator[None]:
    """Turn what Triton raises at a launch into one line that says what to do.

    Raises:
        C4CError: the kernel could not be compiled for this GPU or did not fit on it.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise C4CError(
            f"{op}: the GPU kernel failed for {shape}: {first} "
            "Move the tensors to the CPU, or report this with the shapes above."
        ) from error


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)
