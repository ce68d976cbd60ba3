"""How fast this machine extracted before: notes in the user's own folder, for dry runs.

A small JSON file for each way to extract, in ``$XDG_STATE_HOME/c4c/rates``
(``~/.local/state/…``). What cannot be noted or read is measured anew.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from c4c.core.errors import C4CError
from c4c.core.files import write_json
from c4c.core.home import own_folder
from c4c.core.records import Fingerprint
from c4c.core.schema import read_record
from c4c.extract.config import ExtractConfig


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast an extraction is.

    Attributes:
        speed: seconds of video that it takes in a second.
        width: D of its features.
    """

    speed: float
    width: int


def note_rate(config: ExtractConfig, made: Fingerprint, rate: Rate) -> None:
    """Keep how fast a run was, under the backend asked for and the one that was taken."""
    for asked in {(config.backend, config.precision), (made.engine, made.dtype)}:
        path = _file(config, *asked)
        if path is None:
            return
        with contextlib.suppress(C4CError, OSError):  # a dry run measures then
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, asdict(rate))


def noted_rate(config: ExtractConfig) -> Rate | None:
    """What the last run that extracted in this way has noted."""
    path = _file(config, config.backend, config.precision)
    if path is None or not path.is_file():
        return None
    with contextlib.suppress(C4CError):
        rate = read_record(path, Rate)
        return rate if rate.speed > 0 and rate.width > 0 else None
    return None


def _file(config: ExtractConfig, backend: str | None, precision: str) -> Path | None:
    """Named by what speed depends on: backbone, device, frames; not by the weights."""
    backbone = config.backbone, backend or "torch", precision, config.device, config.features
    frames = config.fps, config.max_frames, config.sampling, config.frames, config.decoder
    folder = own_folder("XDG_STATE_HOME", ".local/state")
    name = hashlib.sha256(repr((*backbone, *frames, config.workers)).encode()).hexdigest()[:32]
    return folder / "rates" / f"{name}.json" if folder else None
