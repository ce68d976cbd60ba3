"""Reads a pickle of plain values, and nothing else: no class, no function, no call.

For one file only, MSVD's ``raw-captions.pkl``. Whatever a pickle can do beyond lists, dicts,
texts and numbers begins with naming a class or function, and here no name is found.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from c4c.errors import C4CError
from c4c.extract.datasets.tables import read_bytes


class _Plain(pickle._Unpickler):
    """The unpickler written in Python: its memo is a dict, so a few bytes cannot claim memory."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse: plain values need no name."""
        raise C4CError(
            f"it asks for {module}.{name}, and captions need no code. Do not trust this file; "
            "nothing in it was run"
        )

    def get_extension(self, code: int) -> Any:
        """Refuse: a numbered name is a name."""
        raise C4CError(f"it asks for extension {code}, and captions need no code")


def read_pickle(path: Path) -> Any:
    """The plain value in a pickle of protocol 0 to 5; texts of Python 2 are read as UTF-8.

    Raises:
        C4CError: missing, damaged, or with anything but plain values in it.
    """
    data = read_bytes(path)
    try:
        return _Plain(io.BytesIO(data), encoding="utf-8").load()
    except C4CError as error:
        raise C4CError(f"{path} is refused: {error}.") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise C4CError(f"{path} is not a pickle of plain values: {reason}.") from None
