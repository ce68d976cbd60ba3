"""Parquet tables, and the videos that some of them hold as bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError


class Embedded(str):
    """The name of a video that lies in the table itself, as bytes."""


def parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a parquet file; of a column of embedded videos only the names are read."""
    with _open_parquet(path) as file:
        names = lower_names([field.name for field in file.schema_arrow], str(path))
        embedded = set(_embedded_columns(file))
        columns = [
            f"{field.name}.path" if _is_struct(field) else field.name
            for field in file.schema_arrow
            if not _is_binary(field)
        ]
        for number, row in enumerate(_rows(file, columns), 1):
            values = dict(zip(lower_names(list(row), str(path)), row.values(), strict=True))
            found = {name: _plain(values.get(name)) for name in names}
            found |= {name: _embedded(found[name], path, number) for name in embedded}
            yield f"{path} row {number}", found


def read_embedded(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, str, bytes]]:
    """(where, name, content) of the embedded videos of a parquet file.

    Args:
        path: the file.
        names: columns that may hold them; the first that does is read.

    Raises:
        C4CError: it is no parquet file.
    """
    with _open_parquet(path) as file:
        known = {field.name.strip().lower(): field.name for field in file.schema_arrow}
        column = next((one for one in names if one in set(_embedded_columns(file))), None)
        if column is None:
            return
        for number, row in enumerate(_rows(file, [known[column]], 16), 1):
            value = row[known[column]]
            data = value.get("bytes") if isinstance(value, dict) else value
            if data is not None:
                yield f"{path} row {number}", _embedded(_plain(value), path, number), data


@contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise C4CError(f"{path} needs pyarrow; install it: pip install 'c4c[parquet]'") from None
    if not path.is_file():
        raise C4CError(f"{path} does not exist.")
    try:
        with parquet.ParquetFile(path) as file:
            _check_types(file)
            yield file
    except (OSError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise C4CError(f"{path} is not a parquet file that can be read: {reason}") from None


def _check_types(file: Any) -> None:
    """Refuse groups of rows whose columns have other types than the table's.

    pyarrow looks at that so late that it ends the process instead of raising.

    Raises:
        ValueError: there is one.
    """
    types = [file.schema.column(place).physical_type for place in range(len(file.schema.names))]
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        own = [group.column(place).physical_type for place in range(group.num_columns)]
        if own != types:
            raise ValueError(f"its rows of group {number} are not of the types it names")


def _rows(file: Any, columns: list[str], size: int = 1024) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(size, columns=columns):
        yield from batch.to_pylist()


def _is_struct(field: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(field.type))


def _is_binary(field: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(field.type) or types.is_large_binary(field.type))


def _embedded_columns(file: Any) -> Iterator[str]:
    """Columns, in lower case, that hold files as bytes, and not only places for them."""
    leaves: dict[str, bool] = {}
    for group in range(file.metadata.num_row_groups):
        row_group = file.metadata.row_group(group)
        for place in range(row_group.num_columns):
            leaf = row_group.column(place)
            known = leaf.statistics is not None and leaf.statistics.has_null_count
            empty = known and leaf.statistics.null_count == leaf.num_values
            leaves[leaf.path_in_schema] = leaves.get(leaf.path_in_schema, False) or not empty
    for field in file.schema_arrow:
        leaf = f"{field.name}.bytes" if _is_struct(field) else field.name
        if (_is_struct(field) or _is_binary(field)) and leaves.get(leaf):
            yield field.name.strip().lower()


def _embedded(name: Any, path: Path, number: int) -> Embedded:
    """What an embedded video is called: its own path, or the table and the row."""
    own = name if isinstance(name, str) and name.strip() else f"{path.stem}-{number:06d}.mp4"
    return Embedded(own)


def _plain(value: Any) -> Any:
    """A struct's path, nothing for NaN (a table's way of saying so), any other value as it is."""
    if isinstance(value, dict):
        value = value.get("path")
    return None if isinstance(value, float) and math.isnan(value) else value


def lower_names(names: list[str], where: str) -> list[str]:
    """Column names as they are looked up.

    Raises:
        C4CError: two are the same.
    """
    found = [name.strip().lower() for name in names]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise C4CError(f"{where} has the column {twice[0] or 'without name'} twice; keep one.")
    return found
