"""``calibrated-….safetensors``: the int8 tower of a cache, with which every run computes.

It cannot be made again: its ranges are of the frames that there were when the cache began, on
the processor of then. Its checksum is in the fingerprint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError, Damaged
from c4c.core.files import write_once
from c4c.core.inside import is_there
from c4c.core.tensors import read_safetensors, state_sha256

if TYPE_CHECKING:
    from torch import Tensor


def save_calibrated(folder: Path, sha256: str, data: bytes) -> None:
    """Write the tower, unless it is there.

    Args:
        folder: the cache.
        sha256: checksum of its tensors.
        data: the file.

    Raises:
        C4CError: it cannot be written.
    """
    write_once(_path(folder, sha256), data, folder / "tmp")


def read_calibrated(folder: Path, sha256: str) -> dict[str, Tensor]:
    """The tower that a cache was begun with.

    Args:
        folder: the cache.
        sha256: what its fingerprint says.

    Raises:
        Damaged: it is not as it was written.
        C4CError: it is missing.
    """
    path = _path(folder, sha256)
    remedy = "put back a copy of it, or extract anew into another --cache"
    if not is_there(path, folder):
        raise C4CError(f"{path}, the int8 tower of this cache, does not exist; {remedy}.")
    try:
        tower, _ = read_safetensors(path)
    except C4CError as error:
        raise Damaged(f"{path}: {error}; {remedy}.") from None
    if state_sha256(tower) != sha256:
        raise Damaged(f"{path} differs from what was written; {remedy}.")
    return tower


def calibrated_damage(folder: Path, sha256: str) -> Iterator[C4CError]:
    """What is wrong with the tower that the fingerprint names; it may name none."""
    try:
        if sha256:
            read_calibrated(folder, sha256)
    except C4CError as error:
        yield error


def _path(folder: Path, sha256: str) -> Path:
    """Where the tower is; what ``cache.json`` says must not lead to another folder."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise C4CError(f"{folder / 'cache.json'}: 'calibrated' is no SHA-256.")
    return folder / f"calibrated-{sha256[:16]}.safetensors"
