"""Files made from videos, kept in the user's cache folder as long as there is room."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from c4c.core.home import own_folder

_LEAVE = 0.9  # of the limit, after files were removed: else every new file would remove another


def forget(videos: Iterable[str]) -> int:
    """Remove all that was made of videos, whichever store keeps it; bytes freed."""
    base = _base()
    freed = 0
    names = {_digest(path) for path in videos} if base and base.is_dir() else set()
    for path in base.glob("*/*-*") if base and names else ():
        if path.name.partition("-")[0] in names:
            with contextlib.suppress(OSError):  # another process removed it
                freed += os.lstat(path).st_size
                path.unlink()
    return freed


def _base() -> Path | None:
    own = own_folder("XDG_CACHE_HOME", ".cache")
    return own / "serve" if own else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=20).hexdigest()


class Store:
    """A folder of files by video and key, the longest unused of which go when it is full.

    Args:
        name: of the folder, below the user's own.
        most: bytes that its files may have together.
    """

    def __init__(self, name: str, most: int) -> None:
        base = _base() or Path(tempfile.mkdtemp(prefix="c4c-"))
        self.folder, self._most = base / name, most
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._bytes = sum(size for _, size, _ in self._files())

    def get(self, video: str, key: object) -> Path | None:
        """What was made of a video, which counts as used now; ``None`` when it is not kept."""
        path = self._path(video, key)
        with contextlib.suppress(OSError):
            os.utime(path)
            return path
        return None

    def put(self, video: str, key: object, write: Callable[[Path], None]) -> Path:
        """Make a file of a video.

        Args:
            video: its path.
            key: anything whose ``repr`` tells it from others.
            write: writes to the path that it is given; what it raises leaves no file.
        """
        path = self._path(video, key)
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

    def _path(self, video: str, key: object) -> Path:
        return self.folder / f"{_digest(video)}-{_digest(repr(key))}"

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
