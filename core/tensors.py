"""Reading safetensors files: tensors and words, no code; a file that is damaged is an error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from c4c.errors import C4CError
from c4c.files import require_file

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a safetensors file, and the words stored beside them.

    Raises:
        C4CError: it does not exist, is cut short, or is not safetensors.
    """
    from safetensors import safe_open

    require_file(path)
    try:
        with safe_open(path, framework="pt") as stream:
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return state, dict(stream.metadata() or {})
    except Exception as error:  # safetensors, torch and Python each have their own for a bad file
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise C4CError(f"{path} is damaged, or not safetensors ({reason}).") from None
