"""Whose a file of a cache is: the cache's identity, and the mark that binds a file to it.

The identity is a function of the dataset's name and of what makes a feature, never of chance or
of where something lies: a run that was resumed gives the same bytes as an undisturbed one, and
two caches that may be mixed have the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

from c4c.core.records import Fingerprint

UNBOUND = bytes(32)  # the mark of a file that says nothing of its cache


def identity_of(dataset: str, fingerprint: Fingerprint) -> str:
    """The identity of a cache, 64 hex digits.

    Fields that hold their default do not count, so one that a later c4c adds (with what was done
    before as its default) leaves the identity of a cache as it was. Nor does ``weights``, a name
    or a path: ``sha256`` says which weights they are.
    """
    made = {
        one.name: getattr(fingerprint, one.name)
        for one in fields(fingerprint)
        if one.name != "weights" and getattr(fingerprint, one.name) != one.default
    }
    text = json.dumps({"dataset": dataset, "fingerprint": made}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Owner:
    """A cache as its files know it.

    Attributes:
        path: the cache folder.
        identity: its identity; empty for files that are to be bound to none.
    """

    path: Path
    identity: str

    def mark(self, path: Path) -> bytes:
        """The 32 bytes that bind the file at ``path`` to this cache and to its place there."""
        if not self.identity:
            return UNBOUND
        place = path.relative_to(self.path).as_posix()
        return hashlib.sha256(f"{self.identity}\n{place}".encode()).digest()
