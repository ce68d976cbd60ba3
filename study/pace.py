"""How long runs of a study take on this machine, for dry runs.

Runs leave a note in the user's own folder: a small JSON file for each kind of run, beside those of
extraction (``c4c.extract.rates``). Where none was timed yet, a step on made-up inputs is.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.files import write_json
from c4c.core.home import own_folder
from c4c.core.schema import read_record
from c4c.extract.datasets import load_dataset
from c4c.study.config import StudyConfig
from c4c.study.data import source_of
from c4c.study.plan import Run, digest
from c4c.study.spec import Study

if TYPE_CHECKING:
    from c4c.training.config import TrainConfig

# Settings that a step takes no longer or shorter for; epochs and the split are counted instead.
_FREE = ("epochs", "lr", "coef_lr", "weight_decay", "warmup", "clip_norm", "order", "train_split")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast runs of one kind are.

    Attributes:
        seconds: for a caption an epoch, with everything around it.
        size: bytes that a run leaves.
    """

    seconds: float
    size: int


def note_pace(study: Study, config: StudyConfig, run: Run, folder: Path, seconds: float) -> None:
    """Keep how long a whole run took."""
    path = _file(study, config, run)
    size = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    if path:
        with contextlib.suppress(C4CError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, asdict(Pace(seconds / _captions_seen(config, run), size)))


@dataclass(frozen=True, slots=True)
class Takes:
    """What a run takes.

    Attributes:
        seconds: of time.
        size: bytes that it leaves.
        tried: whether only a step was timed, and not a run.
    """

    seconds: float
    size: int
    tried: bool = False


def expected(study: Study, config: StudyConfig, run: Run) -> Takes | None:
    """What a run takes, by the last one of its kind; ``None`` where none was timed."""
    path = _file(study, config, run)
    if path is None or not path.is_file():
        return None
    with contextlib.suppress(C4CError):
        pace = read_record(path, Pace)
        return Takes(pace.seconds * _captions_seen(config, run), pace.size)
    return None


def tried(config: StudyConfig, run: Run, training: TrainConfig, dim: int) -> Takes:
    """What a run takes, by a step that is taken now; evaluation comes on top.

    Args:
        config: of the study.
        run: the run.
        training: its settings.
        dim: D of cached features.

    Raises:
        C4CError: weights that cannot be used.
    """
    from c4c.training.config import TrainHeadConfig
    from c4c.training.trial import try_step

    if isinstance(training, TrainHeadConfig) and not training.learns:
        return Takes(0.0, 0, tried=True)
    found = try_step(training, dim)
    # The best checkpoint, and the last one with the two moments of every parameter.
    size = 4 * found.parameters * (1 + 3)
    return Takes(found.seconds * _captions_seen(config, run), size, tried=True)


def _captions_seen(config: StudyConfig, run: Run) -> int:
    """Captions of the split that is trained on, times epochs; 1 where nothing is trained."""
    epochs: int = run.settings.get("epochs", 0)
    if not epochs:
        return 1
    split = run.settings.get("train_split", "train")
    return max(1, epochs * _captions(source_of(config, run.dataset), split))


@cache
def _captions(source: DatasetSource, split: str) -> int:
    return len(load_dataset(source, split).captions)


def _file(study: Study, config: StudyConfig, run: Run) -> Path | None:
    settings = {key: value for key, value in run.settings.items() if key not in _FREE}
    device = config.devices[0] if config.devices else None
    kind = [study.mode, run.dataset, settings, run.asked, device]
    folder = own_folder("XDG_STATE_HOME", ".local/state")
    return folder / "rates" / f"study-{digest(kind)}.json" if folder else None
