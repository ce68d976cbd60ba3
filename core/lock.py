"""One writer a folder: a lock that dies with its process, and a refusal that names who holds it.

The lock is on a file ``.lock`` in the folder, which says who writes and is removed at the end. It
belongs to the open file, so it is gone with the process, however that ends, and it holds between
machines where the file system carries locks (NFS does). Where none can be had, the file itself is
the lock: then what a killed process left has to be removed by hand, and the refusal says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from c4c.core.errors import C4CError
from c4c.core.progress import say

FILE = ".lock"
_LOOK = 0.5  # seconds between two tries of one that waits
# Errors of file systems without locks, or of kernels without those of open files.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


@contextlib.contextmanager
def one_writer(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold ``folder``, which is made if need be, for this process alone.

    Args:
        folder: what is written.
        wait: for another writer to end; without it, that one is an error.

    Raises:
        C4CError: another run writes there, or the folder cannot be written.
    """
    made = not folder.exists()
    path = folder / FILE
    said = False
    while (held := _take(path)).handle is None:
        if not wait or held.forever:
            raise C4CError(_refusal(folder, held))
        if not said:
            say(f"waiting for another run that writes {folder}: {held.owner}")
        said = True
        time.sleep(_LOOK)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(held.handle)
        if made:  # and nothing was written: leave no trace
            with contextlib.suppress(OSError):
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class _Held:
    """What came of a try.

    Attributes:
        handle: of the open lock file; ``None`` when another run holds it.
        owner: that other run, in words.
        forever: whether a killed owner would hold it for ever.
    """

    handle: int | None
    owner: str = ""
    forever: bool = False


def _take(path: Path) -> _Held:
    """Try to lock; a file that was removed or replaced meanwhile is tried again."""
    try:
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, fresh = _open(path)
            held = _lock(handle, fresh)
            if held.handle is None:
                os.close(handle)
                return held
            if _still(path, handle):
                _sign(handle)
                return held
            os.close(handle)
    except OSError as error:
        raise C4CError(f"Cannot write {path}: {error.strerror}.") from None


def _open(path: Path) -> tuple[int, bool]:
    """The lock file, and whether it is new; nothing is followed out of the folder."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags | os.O_EXCL, 0o666), True
    except FileExistsError:
        return os.open(path, flags, 0o666), False


def _lock(handle: int, fresh: bool) -> _Held:
    """Lock an open file; where there are no locks, whoever made the file has it."""
    whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, whole)
    except (BlockingIOError, PermissionError):
        return _Held(None, _owner(handle))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if not fresh:
            return _Held(None, _owner(handle), forever=True)
    return _Held(handle)


def _still(path: Path, handle: int) -> bool:
    """Whether the locked file is the one under its name: another's end may have removed it."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    """Write who holds it, in place of who did."""
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    who = {"host": socket.gethostname(), "pid": os.getpid(), "started": started}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(who).encode(), 0)


def _owner(handle: int) -> str:
    """Who holds it, as far as the file says; it may be anybody's, or not written yet."""
    try:
        who = json.loads(os.pread(handle, 4096, 0))
        return f"process {who['pid']} on {who['host']}, since {who['started']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "its lock file does not say which"


def _refusal(folder: Path, held: _Held) -> str:
    words = f"Another run writes {folder} ({held.owner}); wait for it, or name another folder."
    if held.forever:
        words += f" This file system has no locks: if that run has ended, remove {folder / FILE}."
    return words
