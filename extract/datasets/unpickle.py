"""Reads a pickle of plain values, and nothing else: no class, no function, no call.

For one file only, MSVD's ``raw-captions.pkl``. Whatever a pickle can do beyond lists, dicts,
texts and numbers begins with naming a class or function, and here no name is found. Nor can a
small file stand for endless work: it may name a value again and again, but all of them together
are not much larger than MSVD's.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError
from c4c.core.pickles import PlainUnpickler, check_repeats, plain
from c4c.extract.datasets.tables import read_bytes

_LARGEST = 64 << 20  # bytes of a file; MSVD's has about five million
# Elements beside those that a pickle writes out: lists may be shared, and MSVD has 700,000 words.
_REPEATS = 1_000_000


def read_pickle(path: Path) -> Any:
    """The plain value in a pickle of protocol 0 to 5; texts of Python 2 are read as UTF-8.

    Raises:
        C4CError: missing, damaged, with anything but plain values in it, or with values that
            are named over and over.
    """
    data = read_bytes(path, _LARGEST)
    try:
        value = PlainUnpickler(io.BytesIO(data)).load()
        if isinstance(value, (list, tuple, dict)):
            check_repeats(value, _REPEATS + 2 * len(data))
        return value
    except C4CError as error:
        raise C4CError(
            f"{path} is refused: {error}, and captions need no such thing. Do not trust this "
            "file; nothing in it was run."
        ) from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = plain(error) or type(error).__name__
        raise C4CError(f"{path} is not a pickle of plain values: {reason}.") from None
