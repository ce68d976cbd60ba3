"""Which files of weights the user has named, kept in the user's own folder.

A cache says which weights made it, and a cache may come from elsewhere. So what it says is never
opened: a search asks here for the file that the user himself passed when features of the same
weights were made, and opens it only if it still is that file.

One small JSON file for each model, in ``$XDG_STATE_HOME/c4c/weights`` (``~/.local/state/…``),
named by the hash of the model's state: writers of different models never meet, and of two that
write the same one either is right.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shlex
import stat
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.errors import C4CError
from c4c.core.files import read_json, write_json
from c4c.core.home import own_folder
from c4c.core.progress import say
from c4c.core.records import Fingerprint
from c4c.extract.backbone.build import needs_file
from c4c.extract.backbone.tokens import Tokenizer
from c4c.extract.backbone.towers import uses_quick_gelu
from c4c.extract.backbone.weights import weights_file

if TYPE_CHECKING:
    from c4c.extract.backbone.backbone import Backbone

_STATE = re.compile(r"[0-9a-f]{64}")
# Two writes may have one time stamp (a tick is 4 ms, on network file systems a second or two):
# a stamp that young does not prove that the file is the one that was hashed.
_SETTLED = 3_000_000_000


@dataclass(frozen=True, slots=True)
class Named:
    """A file of weights as it was when the user named it.

    Attributes:
        path: absolute.
        sha256: of its bytes.
        stamp: size, modification time, inode and change time; while it has these, the bytes are
            not read again. ``None``: they are.
        quick_gelu: whether the model that was made of it uses that; ``None``: nobody noted it.
    """

    path: str
    sha256: str
    stamp: list[int] | None
    quick_gelu: bool | None = None


def remember(backbone: Backbone) -> None:
    """Note that the user named the file (or tag, or checkpoint folder) of ``backbone``.

    When that cannot be noted (no home, a full disk) a line says so: features are worth more.
    """
    _remember_tokenizer(getattr(backbone.tokenizer, "local", None), backbone.tokenizer)
    path = backbone.file
    if path is None:
        return
    try:
        record = _record(backbone.sha256)
        if record is None:
            raise C4CError("there is no home folder, and no XDG_STATE_HOME")
        known, quick = _read(record), uses_quick_gelu(backbone.model)
        same = known and (known.path, known.quick_gelu) == (str(path), quick)
        if not (same and known and known.stamp == _stamp(path)):
            _write(record, replace(_named(path), quick_gelu=quick))
    except (C4CError, OSError) as error:
        say(f"a search will need --pretrained again: that it was passed cannot be noted ({error})")


def named_weights(state_sha256: str, asked: str | None) -> tuple[Path, bool] | None:
    """The file that the user named for a model, and whether that uses quick GELU.

    Args:
        state_sha256: hash of the model's state.
        asked: weights that the user names now; ``None`` is any.

    Returns:
        ``None``: no such file was named, another is named now, or its activation was not noted.

    Raises:
        C4CError: it is gone, or has other bytes now.
    """
    path = _recall(state_sha256)
    record = _record(state_sha256)
    known = _read(record) if record else None
    if path is None or known is None or known.quick_gelu is None:
        return None
    if asked is not None and weights_file(Path(os.path.abspath(asked))) != path:
        return None
    return path, known.quick_gelu


def weights_of(made: Fingerprint, cache: Path) -> str:
    """The weights that made a cache: a tag, or the file that the user once named for them.

    Args:
        made: the cache's fingerprint, which may be anybody's.
        cache: its folder, for messages.

    Returns:
        What ``load_backbone`` takes.

    Raises:
        C4CError: they are in a file that nobody named here, or that is not the same any more.
    """
    if not needs_file(made.model, made.weights):
        return made.weights
    try:
        path = _recall(made.sha256)
    except C4CError as error:
        raise C4CError(f"The weights of {cache} are needed for texts: {error}.") from None
    if path is None:
        clear = made.weights.isprintable() and len(made.weights) < 200
        named = shlex.quote(made.weights) if clear else "FILE"
        raise C4CError(
            f"{cache} says that it was made with the weights file {named}, which was not opened: "
            f"nobody passed it to c4c here. If you trust it, pass --pretrained {named} once."
        )
    return str(path)


def tokenizer_of(made: Fingerprint, cache: Path, asked: Path | None = None) -> Path | None:
    """The local tokenizer that a cache was made with, if it was made with one.

    Args:
        made: the cache's fingerprint.
        cache: its folder, for messages.
        asked: what the user passes now; ``None`` is what was passed for the same files before.

    Raises:
        C4CError: nobody passed it here, or it has other files now.
    """
    record = _record(made.tokenizer)
    known = _read(record) if record and not asked else None
    local = asked or (Path(known.path) if known else None)
    if local is None and made.tokenizer:
        raise C4CError(f"{cache} was made with a tokenizer of its own; pass --tokenizer with it.")
    if local is not None and Tokenizer(made.model, local).sha256 != made.tokenizer:
        other = "another" if made.tokenizer else "the model's own"
        raise C4CError(f"{cache} was made with {other} tokenizer, not with {local}.")
    return local


def _remember_tokenizer(local: Path | None, tokenizer: Any) -> None:
    """Note where a tokenizer is that the user passed."""
    record = _record(tokenizer.sha256) if local else None
    if local and record:
        with contextlib.suppress(C4CError, OSError):  # a search will ask for it again
            _write(record, Named(os.path.abspath(local), tokenizer.sha256, None))


def _recall(state_sha256: str) -> Path | None:
    """The file that the user named for a model, known to be the same as then.

    Raises:
        C4CError: it is gone, or has other bytes now.
    """
    record = _record(state_sha256)
    known = _read(record) if record else None
    if record is None or known is None:
        return None
    path = Path(known.path)
    try:
        if known.stamp == _stamp(path):
            return path
        now = _named(path)
    except OSError as error:
        raise C4CError(f"{path} cannot be read ({error.strerror}); pass --pretrained") from None
    if now.sha256 != known.sha256:
        raise C4CError(f"{path} has changed since; pass --pretrained with those it was made with")
    if now.stamp:
        now = replace(now, quick_gelu=known.quick_gelu)
        with contextlib.suppress(C4CError, OSError):  # a read-only home: it is hashed each time
            _write(record, now)
    return path


def _write(record: Path, named: Named) -> None:
    record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(record, asdict(named))


def _record(state_sha256: str) -> Path | None:
    """Where a model's record is; ``None`` when there is no place for it, or no such model."""
    # The hash may come from a foreign cache: it must not lead to another folder.
    if not _STATE.fullmatch(state_sha256):
        return None
    folder = own_folder("XDG_STATE_HOME", ".local/state")
    return folder / "weights" / f"{state_sha256}.json" if folder else None


def _read(record: Path) -> Named | None:
    """A record; ``None`` when there is none that can be used."""
    try:
        found: Any = read_json(record)
        quick = found.get("quick_gelu")
        named = Named(found["path"], found["sha256"], found["stamp"], quick)
    except (AttributeError, C4CError, KeyError, TypeError):
        return None
    return named if isinstance(named.path, str) and isinstance(named.sha256, str) else None


def _named(path: Path) -> Named:
    """The file as it is now.

    Raises:
        OSError: it cannot be read.
    """
    before = _stamp(path)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    young = time.time_ns() - max(before[1], before[3]) < _SETTLED
    return Named(str(path), digest, None if young or _stamp(path) != before else before)


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return [found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns]
