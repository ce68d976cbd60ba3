"""The user's own folders, where nothing from elsewhere lies and nobody else writes."""

from __future__ import annotations

import os
from pathlib import Path


def own_folder(variable: str, usual: str) -> Path | None:
    """c4c's folder below a base folder of the XDG specification.

    Args:
        variable: what may name the base, ``XDG_STATE_HOME`` for example.
        usual: the base where it does not, below the user's home: ``.local/state``.

    Returns:
        An absolute path, which need not exist; ``None`` when there is no home.
    """
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):  # to be ignored, says the specification
        base = os.path.join(os.path.expanduser("~"), usual)
    # Without HOME, and with a number that has no name, "~" stays what it is.
    return Path(base) / "c4c" if os.path.isabs(base) else None
