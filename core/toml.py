"""TOML of anybody's making: whole, and of a size and depth that can be read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError
from c4c.core.files import read_text

# A key of 64 parts and more, which takes tomllib the square of their number.
_LONG_KEY = re.compile(r"""(?<![\w.-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){63}""")


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises:
        C4CError: see ``read_text``; or not TOML.
    """
    return parse_toml(read_text(path, most=1 << 20), str(path))


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The table of TOML text; ``where`` names it in messages.

    Raises:
        C4CError: the text is not TOML, or is nested too deeply.
    """
    if _LONG_KEY.search(text):
        raise C4CError(f"{where} is not TOML that c4c reads: a key has too many parts.")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise C4CError(f"{where} is not TOML: it is nested too deeply.") from None
    except ValueError as error:  # also of numbers with thousands of digits
        raise C4CError(f"{where} is not TOML: {' '.join(str(error).split())}.") from None
