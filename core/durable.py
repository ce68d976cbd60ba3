"""Names that last: the calls by which a file gets its name for good, on any file system.

Everything that c4c makes durable goes through here: a file's bytes are synced before it gets its
name, and the folder that holds the name is synced before anybody is told (or anything else is
removed because of it). Tests record these calls and check their order.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from c4c.core.progress import say

# What file systems answer that have no hard links (exFAT, SMB, some of FUSE).
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK)
_NO_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_FLAGS = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_SAID: set[str] = set()
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


def write_synced(path: Path, data: bytes | memoryview) -> None:
    """Write bytes over a file that exists, and make them durable.

    Raises:
        OSError: the disk is full, or they could not be written.
    """
    with path.open("rb+") as stream:
        stream.write(data)
        stream.flush()
        _fsync(stream.fileno(), path, "files")


def fsync_file(path: Path) -> None:
    """Make the bytes of a file durable that somebody else wrote.

    Raises:
        OSError: they could not be written.
    """
    with path.open("rb+") as stream:
        _fsync(stream.fileno(), path, "files")


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: they could not be written.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _fsync(handle, folder, "folders")
    finally:
        os.close(handle)


def _fsync(handle: int, path: Path, what: str) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        _note(
            f"sync of {what}",
            f"the file system of {path} cannot sync {what} ({error.strerror}): after a power "
            "failure what was written last may be missing; verify then, and run again",
        )


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it; each new name is durable.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def give_name(temporary: Path, path: Path) -> bool:
    """Give a whole, synced file its final name, and make the name durable; replaces nothing.

    Where there are no hard links the file is renamed, which leaves no temporary name behind.

    Returns:
        Whether this call did it; false when the name was taken.

    Raises:
        OSError: the file system refuses.
    """
    try:
        os.link(temporary, path)
        given = True
    except FileExistsError:
        given = False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return rename_new(temporary, path)
    fsync_folder(path.parent)
    return given


def rename_new(source: Path, target: Path) -> bool:
    """Rename a file, and make the names durable; replaces nothing.

    Where the file system knows no such rename, it is looked before whether the name is free: of
    two processes that rename to one name at the same moment the last one's file then holds.

    Returns:
        Whether this call did it; false when the name was taken.

    Raises:
        OSError: the file system refuses.
    """
    try:
        _rename_without_replacing(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLAGS:
            raise
        if os.path.lexists(target):
            return False
        _note(
            "names",
            f"the file system of {target.parent} has no hard links, and no rename that does not "
            "replace: of two runs that write one file at the same moment the last one's holds; "
            "let one run at a time write there",
        )
        os.rename(source, target)
    fsync_folder(target.parent)
    return True


def _rename_without_replacing(source: Path, target: Path) -> None:
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # glibc since 2.28
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(target))
    names = os.fsencode(source), os.fsencode(target)
    if call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_NOREPLACE):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))


def _note(about: str, words: str) -> None:
    """Say what a file system lacks, once."""
    if about not in _SAID:
        _SAID.add(about)
        say(words)
