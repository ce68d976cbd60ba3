"""Files of safetensors: no code can be in them, but what they claim is still only a claim."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError

if TYPE_CHECKING:
    from torch import Tensor

# Bytes. 600 tensors of CLIP need 60 kB; a header of 100 MB, which the format allows, takes minutes.
_HEADER = 2 << 20


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a safetensors file, and the words stored beside them.

    Raises:
        C4CError: there is no such file, or it is cut short, or not safetensors; the message does
            not name it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if not os.path.isfile(path):  # a pipe would be waited on
            raise C4CError("there is no such file")
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > _HEADER:
                raise C4CError("its header is far too long, or it is not safetensors")
        with safe_open(path, framework="pt") as stream:
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return state, dict(stream.metadata() or {})
    except OSError as error:
        raise C4CError(error.strerror or "unreadable") from None
    except (SafetensorError, ValueError) as error:
        raise C4CError(str(error).splitlines()[0] if str(error) else "unreadable") from None


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """Sha256 over names, shapes, types and bytes, in the names' order."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
