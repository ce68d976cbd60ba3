"""Writing files so that a name stands for something whole, or is not there."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from c4c.durable import fsync_file, fsync_folder, give_name, make_folder, write_synced
from c4c.errors import C4CError, Unreadable
from c4c.inside import is_there, refuse_links

__all__ = [
    "fsync_folder",
    "json_bytes",
    "read_json",
    "write_atomic",
    "write_json",
    "write_once",
]


def write_atomic(path: Path, data: bytes | Callable[[Path], None]) -> None:
    """Write ``path`` whole or not at all: temporary name, fsync, rename, fsync the folder.

    Args:
        path: the final name; what stood there is replaced.
        data: the bytes, or a function that writes them to the path it is given.

    Raises:
        C4CError: the file cannot be written (disk full, no permission).
    """
    try:
        make_folder(path.parent)
        name = f".tmp-{secrets.token_hex(6)}{path.suffix}"
        with _temporary(path.parent / name) as (temporary, mode):
            if callable(data):
                _call(data, temporary, path)
                if temporary.stat().st_mode & 0o777 != mode:
                    os.chmod(temporary, mode)  # a library put a file of its own there
                fsync_file(temporary)
            else:
                write_synced(temporary, data)
            os.replace(temporary, path)
            fsync_folder(path.parent)
    except OSError as error:
        raise C4CError(f"Cannot write {path}: {error.strerror or error}.") from None


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, int]]:
    """A new empty file with the permissions that the umask leaves; it is gone in the end."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        mode = os.fstat(handle).st_mode & 0o777
        os.close(handle)
        yield path, mode
    finally:
        path.unlink(missing_ok=True)


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
    path: Path,
    data: bytes | memoryview,
    aside: Path,
    check: Callable[[Path], None] | None = None,
) -> bool:
    """Write ``path`` whole unless it exists already: the first of several writers wins.

    The bytes are synced and checked before they get their name. No link is followed below the
    folder that holds ``aside``.

    Args:
        path: the final name.
        data: the bytes.
        aside: folder for the temporary file, on the same file system.
        check: reads the temporary file back and raises when it is not as it should be.

    Returns:
        Whether this call wrote it.

    Raises:
        C4CError: the file cannot be written (disk full, read-only), or something that is no
            file stands there.
    """
    refuse_links(aside, aside.parent)
    refuse_links(path.parent, aside.parent)
    try:
        make_folder(path.parent)
        make_folder(aside)
        name = f"{path.stem}-{os.getpid()}-{secrets.token_hex(4)}.tmp"
        with _temporary(aside / name) as (temporary, _):
            write_synced(temporary, data)
            if check is not None:
                check(temporary)
            won = give_name(temporary, path)
    except OSError as error:
        raise C4CError(f"Cannot write {path}: {error.strerror or error}.") from None
    if not won:
        is_there(path, aside.parent)
    return won


def json_bytes(value: Any) -> bytes:
    """``value`` as indented JSON (ASCII: file names may not be UTF-8)."""
    return (json.dumps(value, indent=1) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_atomic(path, json_bytes(value))


MOST_BYTES = 2 << 30  # of a file that is read whole: the plan of some million clips has less


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        C4CError: it is missing, unreadable, not UTF-8, not JSON, or nested too deeply.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise C4CError(f"{path} has more than {MOST_BYTES} bytes; is it the right file?")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise C4CError(f"{path} is not there.") from None
    except OSError as error:
        raise Unreadable.because(path, error) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise C4CError(f"{path} is not usable JSON: {reason}.") from None
