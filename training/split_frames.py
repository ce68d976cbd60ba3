"""The frames of a split as the settings of an end-to-end training want them, in its frame cache."""

from __future__ import annotations

from pathlib import Path

from c4c.core.cores import cores
from c4c.core.records import Dataset
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.video.request import Request
from c4c.training.config import TrainE2EConfig
from c4c.training.frame_store import FrameStore
from c4c.training.frames import frames_folder, open_frames


def frames_wanted(config: TrainE2EConfig, backbone: Backbone) -> Request:
    """Which frames of a clip, and how they are resized."""
    fit = backbone.preprocessing.fit
    return Request(config.fps, config.max_frames, config.sampling, config.decoder, fit)


def cache_folder(config: TrainE2EConfig) -> Path:
    """The folder of the frame caches of a dataset."""
    return config.frame_cache or Path("c4c-cache") / f"{config.dataset}-frames"


def split_frames(config: TrainE2EConfig, dataset: Dataset, backbone: Backbone) -> FrameStore:
    """The frames of a split, from the run's frame cache.

    Raises:
        C4CError: nothing could be decoded, or the cache cannot be written.
    """
    request = frames_wanted(config, backbone)
    return open_frames(cache_folder(config), dataset, backbone, request, decoders(config))


def has_frames(config: TrainE2EConfig, dataset: Dataset, backbone: Backbone) -> bool:
    """Whether the frame cache of a split is there, whole."""
    request = frames_wanted(config, backbone)
    return frames_folder(cache_folder(config), dataset, backbone, request)[0].exists()


def decoders(config: TrainE2EConfig) -> int:
    """How many decoder processes a run has."""
    return config.workers or cores()
