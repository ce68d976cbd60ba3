"""What is in the video files that a cache was made of: a digest of each whole file, by its path.

A stamp (``stamps.py``) only nominates: features are shared between two files when the digests of
all of their bytes agree. The plan keeps them; those of files that were extracted since are in
journals beside it, ``contents/NUMBER-DIGEST.json``, of which the highest plan number holds.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated

from c4c.cache.plan import Manifest
from c4c.cache.stamps import file_stamps
from c4c.core.errors import C4CError
from c4c.core.files import file_sha256, json_bytes, write_once
from c4c.core.inside import is_there, list_folder, refuse_links
from c4c.core.progress import say
from c4c.core.schema import AsList, read_record

FOLDER = "contents"
SCHEMA = 1
_EVERY = 10.0  # seconds between two journals
_PATIENCE = 10.0  # seconds that the end of a run waits for a file that is being read


@dataclass(frozen=True, slots=True)
class _Content:
    """A file as it was read: its path, its stamp and the SHA-256 of all of its bytes."""

    path: str
    stamp: str
    sha256: str


@dataclass(frozen=True, slots=True)
class _Journal:
    files: tuple[Annotated[_Content, AsList], ...]


class Contents:
    """Digests of files, those that are known and those that are found now.

    Args:
        cache: the cache folder.
        manifests: its plans.
    """

    def __init__(self, cache: Path, manifests: Iterable[Manifest]) -> None:
        self._known: dict[tuple[str, str], str] = {}
        for manifest in manifests:
            for path, digest in manifest.hashes.items():
                self._known[path, manifest.files.get(path, "")] = digest
        for journal in _journals(cache):
            self._known |= {(one.path, one.stamp): one.sha256 for one in journal.files}
        self._said = False

    def known(self, path: str, stamp: str) -> str:
        """The digest of a file that had this stamp; empty when nobody has read it."""
        return self._known.get((path, stamp), "")

    def forget(self, path: str, stamp: str) -> None:
        """The file is to be extracted anew: what was known of it may be of other bytes."""
        self._known.pop((path, stamp), None)

    def same(self, one: str, other: str, stamp: str) -> bool:
        """Whether two files with the same stamp are the same throughout; reads what it must."""
        if not stamp:
            return False
        digest = self._digest(one, stamp)
        return bool(digest) and digest == self._digest(other, stamp)

    def _digest(self, path: str, stamp: str) -> str:
        if (path, stamp) in self._known:
            return self._known[path, stamp]
        if file_stamps([path]).get(path) != stamp:
            return ""  # gone, or replaced
        if not self._said:
            say("comparing videos with those that the cache has")
            self._said = True
        try:
            self._known[path, stamp] = file_sha256(Path(path))
        except C4CError:
            return ""
        return self._known[path, stamp]


def _journals(cache: Path) -> list[_Journal]:
    refuse_links(cache / FOLDER, cache)
    names = [one.name for one in list_folder(cache / FOLDER) if one.name.endswith(".json")]
    paths = [cache / FOLDER / name for name in sorted(names)]
    return [read_record(path, _Journal, SCHEMA) for path in paths if is_there(path, cache)]


def note_contents(cache: Path, number: int, found: Mapping[str, tuple[str, str]]) -> None:
    """Keep digests of files.

    Args:
        cache: the cache folder.
        number: of the plan that named the files.
        found: path to stamp and digest.

    Raises:
        C4CError: they cannot be written.
    """
    if not found:
        return
    rows = [[path, *found[path]] for path in sorted(found)]
    content = json_bytes({"schema": SCHEMA, "files": rows})
    name = f"{number:04d}-{hashlib.sha256(content).hexdigest()[:16]}.json"
    write_once(cache / FOLDER / name, content, cache / "tmp")


def drop_journals(cache: Path, manifests: Iterable[Manifest]) -> None:
    """Remove the journals of which the plans hold all that they say."""
    held = {path: digest for manifest in manifests for path, digest in manifest.hashes.items()}
    for entry in list_folder(cache / FOLDER):
        path = cache / FOLDER / entry.name
        if not entry.name.endswith(".json") or not is_there(path, cache):
            continue
        journal = read_record(path, _Journal, SCHEMA)
        if all(held.get(one.path) == one.sha256 for one in journal.files):
            path.unlink(missing_ok=True)


class Reader:
    """Reads files whole in the background, just after they were decoded, and keeps their digests.

    Args:
        cache: the cache folder.
        number: of the plan that names the files.
        stamps: of the files, by path, as they were planned.
    """

    def __init__(self, cache: Path, number: int, stamps: Mapping[str, str]) -> None:
        self._cache, self._number, self._stamps = cache, number, stamps
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._found: dict[str, tuple[str, str]] = {}
        self._asked: set[str] = set()
        self._done = threading.Event()
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.put(None)
        self._done.wait(_PATIENCE if kind is not None else None)
        self._write()

    def read(self, path: str) -> None:
        """Have a file read, once."""
        if path in self._stamps and path not in self._asked:
            self._asked.add(path)
            self._waiting.put(path)

    def write(self) -> None:
        """Keep what has been found since, now and then; the end keeps the rest.

        Raises:
            C4CError: it cannot be written.
        """
        if time.monotonic() - self._since >= _EVERY:
            self._write()

    def _write(self) -> None:
        self._since = time.monotonic()
        found, self._found = self._found, {}
        note_contents(self._cache, self._number, found)

    def _read(self) -> None:
        while (path := self._waiting.get()) is not None:
            try:
                self._found[path] = self._stamps[path], file_sha256(Path(path))
            except C4CError:
                continue  # it is gone meanwhile
        self._done.set()
