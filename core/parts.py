"""The files of a checkpoint folder are those that its ``checkpoint.json`` was written with.

``files`` in there has the SHA-256 of each by name; checkpoints from before it had are not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from c4c.core.errors import Damaged
from c4c.core.files import file_sha256
from c4c.core.schema import read_record

INFO = "checkpoint.json"
REMEDY = "copy the checkpoint again, or go back to another"


@dataclass(frozen=True, slots=True)
class _Parts:
    """What ``checkpoint.json`` says of the other files."""

    files: dict[str, str] = field(default_factory=dict)


def check_part(folder: Path, name: str, files: Mapping[str, str] | None = None) -> None:
    """Compare a file of a checkpoint with its checksum, where there is one.

    Args:
        folder: the checkpoint.
        name: of the file in it.
        files: checksums by name; ``None`` reads them.

    Raises:
        Damaged: the file is another than was written.
        C4CError: it, or ``checkpoint.json``, cannot be read.
    """
    if files is None:
        files = read_record(folder / INFO, _Parts).files if (folder / INFO).exists() else {}
    if name in files and file_sha256(folder / name) != files[name]:
        raise Damaged(f"{folder / name} differs from its checksum; {REMEDY}.")
