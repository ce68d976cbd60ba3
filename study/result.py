"""The result of one run of a study, as its file holds it, and the check that it is that run's."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from c4c.core.errors import C4CError
from c4c.core.files import read_json
from c4c.core.schema import Range, parse
from c4c.retrieval.compare import Row
from c4c.study.plan import Run

if TYPE_CHECKING:
    from c4c.training.config import TrainConfig

SCHEMA = 1
_REMEDY = "remove it and run the study again"


@dataclass(frozen=True, slots=True)
class _Figures:
    """Figures of one direction (``retrieval.metrics.Metrics``)."""

    r1: float
    r5: float
    r10: float
    r50: float
    median_rank: float
    mean_rank: float
    rsum: float
    gallery: Annotated[int, Range(1)]
    gallery_expected: Annotated[int, Range(1)]


@dataclass(frozen=True, slots=True)
class _Source:
    """What was evaluated."""

    model: str
    weights: str
    split: str | None
    chosen_on: str | None
    checkpoint: str | None


@dataclass(frozen=True, slots=True)
class _Metrics:
    """Figures of both directions."""

    t2v: _Figures
    v2t: _Figures


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """What a report needs of an evaluation (``retrieval.evaluate.Evaluation.as_dict``)."""

    metrics: _Metrics
    twin_accuracy: float | None
    notes: tuple[str, ...]
    source: _Source
    queries: dict[str, tuple[Row, ...]]


@dataclass(frozen=True, slots=True)
class _Result:
    """What ``result.json`` holds, besides the number of its schema."""

    study: str
    mode: str
    dataset: str
    variant: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    seconds: float
    version: str
    revision: str
    evaluation: _Evaluation
    # Later than the rest: results without them stay readable.
    training: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    curve: tuple[dict[str, Any], ...] = ()


def read_result(path: Path, run: Run) -> dict[str, Any]:
    """The content of a run's result file.

    Raises:
        C4CError: it is damaged, or the result of another run.
        NewerVersion: a later c4c wrote it.
    """
    content: dict[str, Any] = read_json(path)
    result = parse(_Result, content, str(path), SCHEMA, _REMEDY)
    told = [run.dataset, run.variant, run.settings, run.seed]
    if [result.dataset, result.variant, result.settings, result.seed] != json.loads(
        json.dumps(told, default=str)
    ):
        raise C4CError(f"{path} is the result of another run; {_REMEDY}.")
    return content


def of_training(config: TrainConfig, checkpoint: Path) -> dict[str, Any]:
    """What a result says of its training: every setting, parameters, figures of each epoch."""
    from c4c.heads.checkpoint import load_checkpoint
    from c4c.training.journal import read_journal

    held = load_checkpoint(checkpoint)
    tensors = [*held.head.parameters(), *(held.backbone_state or {}).values()]
    return {
        "training": config.numbers(),
        "parameters": sum(tensor.numel() for tensor in tensors),
        "curve": [row for row in read_journal(checkpoint.parent / "log.jsonl") if "epoch" in row],
    }


def revision() -> str:
    """The git revision of c4c's source; empty when it is installed from elsewhere."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "--short=12", "HEAD"]
    try:
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(here.parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
