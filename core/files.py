"""Writing files so that a name stands for something whole, or is not there."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from c4c.errors import C4CError


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes | Callable[[Path], None]) -> None:
    """Write ``path`` whole or not at all: temporary name, fsync, rename, fsync the folder.

    Args:
        path: the final name; what stood there is replaced.
        data: the bytes, or a function that writes them to the path it is given.

    Raises:
        C4CError: the file cannot be written (disk full, no permission).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise C4CError(f"Cannot write {path}: {error.strerror}.") from None
    temporary = Path(name)
    try:
        if callable(data):
            _call(data, temporary, path)
        else:
            temporary.write_bytes(data)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        fsync_folder(path.parent)
    except OSError as error:
        raise C4CError(f"Cannot write {path}: {error.strerror}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _call(write: Callable[[Path], None], temporary: Path, path: Path) -> None:
    """Have a library write a file; its errors are of its own types, even for a full disk."""
    try:
        write(temporary)
    except (OSError, C4CError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise C4CError(f"Cannot write {path}: {reason}.") from error


def write_once(
    path: Path, data: bytes, aside: Path, check: Callable[[Path], None] | None = None
) -> None:
    """Write ``path`` whole unless it is there already: the first of several writers wins.

    Args:
        path: the final name.
        data: the bytes.
        aside: folder for the temporary file, on the same file system.
        check: reads the temporary file back and raises when it is not as it should be.

    Raises:
        C4CError: the file cannot be written (disk full, read-only).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir(parents=True, exist_ok=True)
        temporary = aside / f"{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            if check is not None:
                check(temporary)
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise C4CError(f"Cannot write {path}: {error.strerror or error}.") from None


def _umask() -> int:
    """The process's umask, read without changing it for long enough to matter."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def json_bytes(value: Any) -> bytes:
    """``value`` as indented JSON (ASCII: file names may not be UTF-8)."""
    return (json.dumps(value, indent=1) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_atomic(path, json_bytes(value))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        C4CError: it is missing, unreadable, not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise C4CError(f"{path} is not there.") from None
    except OSError as error:
        raise C4CError(f"Cannot read {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise C4CError(f"{path} is not usable JSON: {reason}.") from None
