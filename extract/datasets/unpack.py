"""Videos that lie in parquet tables as bytes, written to files that can be decoded.

The names are those by which ``manifest`` and ``folder`` know the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic
from c4c.extract.datasets.parquet import read_embedded
from c4c.extract.datasets.rows import VIDEO
from c4c.extract.datasets.shared import check_id


def unpack(tables: Iterable[Path], out: Path) -> list[Path]:
    """Write the videos in the tables' columns below ``out``; files that stand there are kept.

    Args:
        tables: parquet files.
        out: folder to write.

    Returns:
        The files, each once.

    Raises:
        C4CError: a table without embedded videos, a name that is no name, two videos of one
            name, or nowhere to write.
    """
    digests: dict[str, bytes] = {}
    for table in tables:
        found = False
        for where, name, data in read_embedded(table, VIDEO):
            found = True
            check_id(name, where)
            digest = hashlib.sha256(data).digest()
            if digests.setdefault(name, digest) != digest:
                raise C4CError(f"{where}: another video is called '{name}' too.")
            path = out / name
            if not path.is_file() or path.stat().st_size != len(data):
                write_atomic(path, data)
        if not found:
            raise C4CError(f"{table} has no column of embedded videos ({', '.join(VIDEO)}).")
    return [out / name for name in digests]
