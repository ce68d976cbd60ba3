"""Reading safetensors: no code can be in them, but what they claim is still only a claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from c4c.errors import Damaged, Unreadable
from c4c.files import parse_json, require_file
from c4c.schema import parse

if TYPE_CHECKING:
    from torch import Tensor

# Bytes. 600 tensors of CLIP need 60 kB; a header of 100 MB, which the format allows, takes minutes.
_HEADER = 2 << 20


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a safetensors file, and the words stored beside them.

    Raises:
        C4CError: it does not exist, or cannot be read.
        Damaged: it is cut short, or not safetensors.
    """
    from safetensors import safe_open

    require_file(path)
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > _HEADER:
                raise ValueError("its header is far too long")
        with safe_open(path, framework="pt") as stream:
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return state, dict(stream.metadata() or {})
    except OSError as error:
        raise Unreadable.because(path, error) from None
    except Exception as error:
        raise _damaged(str(path), error) from None


def parse_tensors(data: bytes, where: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The same from the bytes of such a file; ``where`` names them in messages.

    Raises:
        Damaged: they are cut short, or not safetensors.
    """
    from safetensors.torch import load

    try:
        state = load(data)
        header = data[8 : 8 + int.from_bytes(data[:8], "little")].decode()
    except Exception as error:
        raise _damaged(where, error) from None
    words = parse(dict[str, object], parse_json(header, where), where).get("__metadata__", {})
    return state, parse(dict[str, str], words, where)


def _damaged(where: str, error: Exception) -> Damaged:
    """Safetensors, torch and Python each have errors of their own for a file that is none."""
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return Damaged(f"{where} is damaged, or not safetensors ({reason}).")
