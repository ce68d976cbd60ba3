"""Extractions that are known to be what a cache was made by, without loading a backbone.

When a run has found that its settings make what a cache holds, that is noted in the user's own
folder: a digest of the settings and of the cache, and the stamp of the weights' file. The next
run of the same command with the same file need not load the backbone to see that nothing is to
be done; if there is something to do, it is loaded, and everything is checked as ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.cache.head_init import read_head_init
from c4c.cache.open import Cache
from c4c.core.errors import C4CError
from c4c.core.files import read_json, write_json
from c4c.core.home import own_folder
from c4c.core.inside import is_there
from c4c.core.version import __version__
from c4c.extract.backbone import tiny
from c4c.extract.video.decode import decoder_version

if TYPE_CHECKING:
    from c4c.extract.backbone.backbone import Backbone
    from c4c.extract.config import ExtractConfig

# What says which clips there are, how they are divided, and by how many processes: the backbone
# has no part in it.
_OTHER = (
    *("root", "videos", "captions", "only_captioned", "include", "exclude", "cache", "splits"),
    *("clips", "workers", "deadline", "shard_clips", "shard_slice", "strict", "max_fail_rate"),
)
_SETTLED = 3_000_000_000  # ns: a younger file may change again within its time stamp


def known_cache(folder: Path, config: ExtractConfig) -> Cache | None:
    """The cache, when it is known that ``config`` makes what it holds; else ``None``."""
    record = _record(folder)
    if record is None or not is_there(folder / "cache.json", folder):
        return None
    cache = Cache.open(folder)
    try:
        found = read_json(record)
        same = found["digest"] == _digest(cache, config)
        known = same and found["stamp"] == _stamp(Path(found["file"]))
        read_head_init(folder, cache.fingerprint.sha256)  # a damaged one is made anew
    except (C4CError, KeyError, TypeError, OSError):
        return None
    return cache if known else None


def note_known(folder: Path, cache: Cache, backbone: Backbone, config: ExtractConfig) -> None:
    """Note that ``config`` with this backbone makes what the cache holds, if that can be noted."""
    record = _record(folder)
    file = tiny.WEIGHTS if (backbone.name, backbone.weights) == (tiny.NAME, "shipped") else None
    file = file or backbone.file
    if record is None or file is None or config.tokenizer is not None:
        return
    with contextlib.suppress(C4CError, OSError):  # the next run loads the backbone again
        stamp = _stamp(file)
        if time.time_ns() - max(stamp[1], stamp[3]) > _SETTLED:
            record.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            found = {"digest": _digest(cache, config), "file": str(file), "stamp": stamp}
            write_json(record, found)


def _record(folder: Path) -> Path | None:
    own = own_folder("XDG_STATE_HOME", ".local/state")
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
    return own / "extractions" / f"{name}.json" if own else None


def _digest(cache: Cache, config: ExtractConfig) -> str:
    """Of everything that the cache's fingerprint depends on, weights apart."""
    own = [one.name for one in fields(config) if one.name not in _OTHER]
    settings = {name: str(getattr(config, name)) for name in own}
    if config.precision == "auto":
        settings["precision"] = cache.fingerprint.dtype
    if config.pretrained and os.path.exists(config.pretrained):
        settings["pretrained"] = os.path.abspath(config.pretrained)
    made_of = {
        "settings": settings,
        "cache": cache.owner.identity,
        "versions": [__version__, version("open_clip_torch"), decoder_version(config.decoder)],
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns]
