"""Which path an operation takes, and the checks that all public functions share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
def launching(op: str, **tensors: Tensor) -> Iterator[None]:
    """Around every launch: on the device of its tensors, and what Triton raises is one line.

    Triton launches on the current device, whatever the tensors' is.

    Args:
        op: name of the operation, for messages.
        tensors: what the kernel reads, under names for messages.

    Raises:
        C4CError: tensors are on several devices, or the kernel could not be compiled for this
            GPU or did not fit on it.
    """
    devices = {tensor.device for tensor in tensors.values()}
    if len(devices) > 1:
        names = " and ".join(sorted(map(str, devices)))
        raise C4CError(f"{op}: {', '.join(tensors)} are on {names}; move them to one device.")
    (device,) = devices
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    except (C4CError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # Triton's own errors (CompilationError, OutOfResources) and others
        words = [line for line in str(error).splitlines() if line.strip()]
        shapes = ", ".join(f"{n} {list(t.shape)} {t.dtype}" for n, t in tensors.items())
        raise C4CError(
            f"{op}: the GPU kernel failed for {shapes}: {type(error).__name__}: "
            f"{(words or ['no reason given'])[0].strip()} Move the tensors to the CPU, or report "
            "this with the shapes above."
        ) from error


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)
