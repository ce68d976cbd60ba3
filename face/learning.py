"""Features to heads and figures: ``c4c.train_head``, ``c4c.evaluate`` and ``c4c.load_head``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.progress import Listener, heard_by
from c4c.core.settings import from_keywords
from c4c.face.keywords import takes
from c4c.retrieval.session import RetrieveConfig
from c4c.training.config import TrainHeadConfig

if TYPE_CHECKING:
    from c4c.cache.open import Cache
    from c4c.heads.base import Head
    from c4c.retrieval.evaluate import Evaluation
    from c4c.training.result import TrainResult


@takes(TrainHeadConfig, "cache")
def train_head(
    cache: Cache | str | os.PathLike[str] | None = None,
    *,
    progress: bool | Listener = True,
    **settings: Any,
) -> TrainResult:
    """Train a temporal head on cached features.

    Args:
        cache: a cache or its folder; ``None`` is the only one below ``c4c-cache``.
        progress: ``False`` is silent; a function hears each ``Update`` (``c4c.core.progress``).
        settings: as ``c4c train-head`` takes them, by the same names and with the same defaults
            (``TrainHeadConfig`` describes each); ``head`` is needed.

    Returns:
        The trained head (``.head``), its figures and its folder. It stands for its best checkpoint
        wherever one is asked for: ``c4c.evaluate(cache, checkpoint=trained)``.

    Raises:
        C4CError: the cache lacks the splits, or settings that cannot be.
        TypeError: a setting that does not exist.
        Interrupted: stopped on request, with everything saved.
    """
    from c4c.training import cached

    config = from_keywords(TrainHeadConfig, {"cache": _folder(cache), **settings})
    with heard_by(progress):
        return cached.train_head(config)


@takes(RetrieveConfig, "cache")
def evaluate(
    cache: Cache | str | os.PathLike[str] | None = None,
    *,
    progress: bool | Listener = True,
    **settings: Any,
) -> Evaluation:
    """Evaluate a head on a split of a cache, in both directions.

    Args:
        cache: a cache or its folder; ``None`` is the only one below ``c4c-cache``.
        progress: ``False`` is silent; a function hears each ``Update`` (``c4c.core.progress``).
        settings: as ``c4c retrieve --evaluate`` takes them, by the same names and with the same
            defaults (``RetrieveConfig`` describes each). Without ``checkpoint`` it is mean pooling.

    Returns:
        Figures (``.metrics["t2v"].r1``, in percent) and every query's rank; ``.notes`` says what
        belongs beside them, such as clips that the head was trained on.

    Raises:
        C4CError: cache and checkpoint do not fit, or the split has no captions.
        TypeError: a setting that does not exist.
    """
    from c4c.retrieval.session import run_evaluate

    config = from_keywords(RetrieveConfig, {"cache": _folder(cache), **settings})
    with heard_by(progress):
        return run_evaluate(config)


def load_head(checkpoint: str | os.PathLike[str], device: str | None = None) -> Head:
    """The head of a checkpoint folder, in float32 and evaluation mode.

    Args:
        checkpoint: such as ``c4c-runs/seqTransf-shapes/best``, or what ``train_head`` returned.
        device: ``cpu``, ``cuda``, ``cuda:1``; by default a GPU when there is one.

    Raises:
        C4CError: there is no checkpoint, or it is damaged.
    """
    from c4c.core.device import pick_device
    from c4c.heads.checkpoint import load_checkpoint

    return load_checkpoint(Path(checkpoint)).head.to(pick_device(device))


def _folder(cache: Cache | str | os.PathLike[str] | None) -> Path | None:
    if cache is None:
        return None
    return Path(cache) if isinstance(cache, str | os.PathLike) else cache.path
