"""Files made from videos, kept in the user's cache folder as long as there is room."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from c4c.core.home import own_folder

_LEAVE = 0.9  # of the limit, after files were removed: else every new file would remove another


class Store:
    """A folder of files by key, the longest unused of which go when it is full.

    Args:
        name: of the folder, below the user's own.
        most: bytes that its files may have together.
    """

    def __init__(self, name: str, most: int) -> None:
        own = own_folder("XDG_CACHE_HOME", ".cache")
        base = own or Path(tempfile.mkdtemp(prefix="c4c-"))
        self.folder, self._most = base / "serve" / name, most
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._bytes = sum(size for _, size, _ in self._files())

    def get(self, key: object) -> Path | None:
        """The file of a key, which counts as used now; ``None`` when there is none."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            os.utime(path)
            return path
        return None

    def put(self, key: object, write: Callable[[Path], None]) -> Path:
        """Make the file of a key.

        Args:
            key: anything whose ``repr`` tells it from others.
            write: writes to the path that it is given; what it raises leaves no file.
        """
        path = self._path(key)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".new-")
        os.close(handle)
        try:
            write(Path(name))
            size = os.path.getsize(name)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        with self._lock:
            self._bytes += size
            if self._bytes > self._most:
                self._make_room(path)
        return path

    def _path(self, key: object) -> Path:
        return self.folder / hashlib.blake2b(repr(key).encode(), digest_size=20).hexdigest()

    def _files(self) -> Iterator[tuple[float, int, str]]:
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another process removed it
                    about = entry.stat(follow_symlinks=False)
                    yield about.st_mtime, about.st_size, entry.path

    def _make_room(self, keep: Path) -> None:
        files = sorted(self._files())
        self._bytes = sum(size for _, size, _ in files)
        for _, size, name in files:
            if self._bytes <= _LEAVE * self._most:
                return
            if name != str(keep):
                with contextlib.suppress(OSError):
                    os.unlink(name)
                    self._bytes -= size
