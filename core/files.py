"""Files: written so that a name stands for something whole, and read with distrust.

What is read is a regular file of sane size (a pipe or a device in its place never blocks and
never fills the memory), then text, then JSON or TOML; ``schema.py`` checks what is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from c4c.core.durable import fsync_file, fsync_folder, give_name, make_folder, write_synced
from c4c.core.errors import C4CError, Misplaced, Unreadable
from c4c.core.inside import is_there, refuse_links

__all__ = [
    "fsync_folder",
    "json_bytes",
    "read_json",
    "write_atomic",
    "write_json",
    "write_once",
]


_TRIES = 20  # to put a file into a folder that others remove when it is empty


def remove_temporary(folder: Path) -> None:
    """Remove what killed runs left of ``write_atomic``: for the one writer of a folder.

    Libraries that write a file for it may put one of their own beside it first (``.tmp`` and
    letters).
    """
    for left in folder.glob(".tmp*"):
        if not left.is_symlink() and left.is_file():
            left.unlink(missing_ok=True)


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
            won = _named(temporary, path)
    except OSError as error:
        raise C4CError(f"Cannot write {path}: {error.strerror or error}.") from None
    if not won:
        is_there(path, aside.parent)
    return won


def _named(temporary: Path, path: Path) -> bool:
    """Give a file its final name; its folder may go while nothing is in it, and is made again."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            return give_name(temporary, path)
        make_folder(path.parent)
    return give_name(temporary, path)


def json_bytes(value: Any) -> bytes:
    """``value`` as indented JSON (ASCII: file names may not be UTF-8)."""
    return (json.dumps(value, indent=1) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_atomic(path, json_bytes(value))


MOST_BYTES = 2 << 30  # of a file that is read whole: the plan of some million clips has less


def require_file(path: Path) -> int:
    """The size of a regular file in bytes, for libraries that open it by its name.

    Raises:
        C4CError: it does not exist, cannot be looked at, or is something else.
    """
    try:
        return _size_of(os.stat(path), path)
    except FileNotFoundError:
        raise C4CError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise Unreadable.because(path, error) from None


def _size_of(about: os.stat_result, path: Path) -> int:
    if not stat.S_ISREG(about.st_mode):
        raise Misplaced(f"{path} is not a regular file; put the file itself there.")
    return about.st_size


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file.

    Args:
        path: the file; links are followed.
        most: bytes that a file of this kind may have.

    Raises:
        C4CError: missing, unreadable, not a regular file, or larger than ``most``.
    """
    require_file(path)
    try:
        # Without blocking: the name may have become that of a pipe, which nobody writes to.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as stream:
            size = _size_of(os.fstat(handle), path)
            if size > most:
                raise C4CError(
                    f"{path} has {size} bytes, and no file of its kind has more than {most}; "
                    "is it the right one?"
                )
            return stream.read(size)
    except OSError as error:
        raise Unreadable.because(path, error) from None


def file_sha256(path: Path) -> str:
    """The sha256 of a regular file's bytes, in hexadecimal.

    Raises:
        C4CError: see ``read_bytes``.
    """
    require_file(path)
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Unreadable.because(path, error) from None


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """A text file as UTF-8, with or without a byte-order mark.

    Raises:
        C4CError: see ``read_bytes``; or not UTF-8, or with NUL bytes.
    """
    return as_text(read_bytes(path, most), str(path))


def as_text(data: bytes, where: str) -> str:
    """Bytes as UTF-8; ``where`` names them in messages.

    Raises:
        C4CError: they are not UTF-8, or have NUL bytes.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise C4CError(f"{where} line {line} is not UTF-8; convert it to UTF-8.") from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise C4CError(f"{where} line {line} holds a NUL character; is the file damaged?")
    return text


def read_json(path: Path, most: int = MOST_BYTES, allow_nan: bool = False) -> Any:
    """The value in a JSON file, strictly (``parse_json``).

    Raises:
        C4CError: see ``read_text`` and ``parse_json``.
    """
    return parse_json(read_text(path, most), str(path), allow_nan)


def parse_json(text: str, where: str, allow_nan: bool = False) -> Any:
    """The value of JSON text, strictly: no duplicate key in an object, no NaN unless allowed.

    Args:
        text: the whole text.
        where: names it in messages.
        allow_nan: take NaN, Infinity and -Infinity, which JSON does not know.

    Raises:
        C4CError: the text is not that, is cut short, or is nested too deeply.
    """
    constant = float if allow_nan else _refuse_constant
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=constant)
    except RecursionError:
        raise C4CError(f"{where} is not JSON: it is nested too deeply.") from None
    except ValueError as error:
        raise C4CError(f"{where} is not JSON: {' '.join(str(error).split())}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"duplicate key '{twice[:40]}' in one object; keep one")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}, which is no number")
