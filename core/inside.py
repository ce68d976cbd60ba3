"""What lies below a folder that came from elsewhere: never followed out of it, never waited for.

A symbolic link below such a folder could lead a reader to a device and a cleaner to other
people's files; a pipe in a file's place would block for ever. So only real folders and regular
files are taken.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from c4c.core.errors import Misplaced, Unreadable


def refuse_links(path: Path, root: Path) -> None:
    """Refuse a path when it, or a folder between it and ``root``, is a symbolic link.

    ``root`` itself may be one: the user named it.

    Raises:
        Misplaced: there is a link.
        Unreadable: a folder cannot be looked into.
    """
    for place in (path, *path.parents):
        if place == root:
            return
        about = _look(place)
        if about is not None and stat.S_ISLNK(about.st_mode):
            raise Misplaced(
                f"{place} is a symbolic link, and nothing below {root} is followed; put what it "
                "leads to in its place, or remove it."
            )


def is_there(path: Path, root: Path) -> bool:
    """Whether a regular file stands at ``path``; false only when nothing does.

    Raises:
        Misplaced: something else does: a link, a folder, a pipe, a device.
        Unreadable: that cannot be told now.
    """
    refuse_links(path, root)
    about = _look(path)
    if about is None:
        return False
    if not stat.S_ISREG(about.st_mode):
        raise Misplaced(f"{path} is not a regular file; remove it.")
    return True


def _look(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise Unreadable.because(path, error) from None


def open_regular(path: Path) -> int:
    """A handle of a regular file, for reading; the caller closes it.

    Raises:
        FileNotFoundError: nothing stands there.
        Misplaced: something else does.
        OSError: it cannot be opened now.
    """
    if stat.S_ISLNK(os.lstat(path).st_mode):
        raise Misplaced(f"{path} is a symbolic link, which is not followed; remove it.")
    # Without blocking: it may have become a pipe, and nobody may ever write to it.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Misplaced(f"{path} is not a regular file; remove it.")
    return handle


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name; nothing when it is missing.

    Raises:
        Unreadable: it cannot be listed now.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Unreadable.because(folder, error) from None


def regular_files(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Regular files below a folder, links not followed; none when the folder is missing.

    Args:
        folder: where to look, at any depth.
        suffix: what their names end in.

    Raises:
        Unreadable: a folder cannot be listed now.
    """
    for entry in list_folder(folder):
        if entry.is_dir(follow_symlinks=False):
            yield from regular_files(folder / entry.name, suffix)
        elif entry.is_file(follow_symlinks=False) and entry.name.endswith(suffix):
            yield folder / entry.name
