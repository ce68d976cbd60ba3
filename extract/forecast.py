"""What an extraction would take (``c4c extract --dry-run``): it opens videos, and writes nothing.

The lengths of a few dozen videos stand for all of them. The time is that of earlier runs on this
machine; where there was none, the first video's first seconds are decoded and encoded.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from c4c.cache.open import Cache
from c4c.core.cores import cores
from c4c.core.inside import is_there
from c4c.core.records import Clip
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.config import BATCH, ExtractConfig
from c4c.extract.opening import begun, cache_folder, opened_backbone, settled, torch_backbone
from c4c.extract.part import request_of, seconds_of
from c4c.extract.pipeline import datasets_of
from c4c.extract.rates import Rate, noted_rate
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request

_OPENED = 48  # videos whose length is looked up
_TRIED = 16  # frames that are decoded and encoded to measure
_TRIES = 5  # clips that are tried, should the first ones give nothing


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an extraction would take.

    Attributes:
        clips: how many are still to be extracted.
        known: of how many of them the length is known; the others count as long as these.
        seconds: of video.
        rate: how fast; ``None`` when the first clip cannot be decoded.
        measured: whether that was measured just now, and not by an earlier run.
        frames: of the clips, at most.
        size: bytes that the features take at most.
    """

    clips: int
    known: int
    seconds: float
    rate: Rate | None
    measured: bool
    frames: int
    size: int


def forecast(config: ExtractConfig) -> Forecast:
    """What ``run_extract`` would take.

    Raises:
        C4CError: data, weights or cache that cannot be used.
    """
    config = settled(config)
    clips = _todo(config)
    lengths = _lengths(clips, config)
    mean = sum(lengths) / max(1, len(lengths))
    rate = noted_rate(config)
    measured = rate is None and any(lengths)
    if measured:
        rate = _measured(clips[:_TRIES], config)
    most = min(mean * config.fps, config.max_frames or float("inf"))
    frames = round(len(clips) * most)
    size = frames * 2 * (rate.width if rate else 0)
    return Forecast(len(clips), len(lengths), mean * len(clips), rate, measured, frames, size)


def _todo(config: ExtractConfig) -> list[Clip]:
    """The clips that the cache has no features of."""
    datasets = datasets_of(config)
    folder = cache_folder(config)
    known = set()
    if is_there(folder / "cache.json", folder):
        cache = Cache.open(folder)
        for split in cache.splits:
            known |= {_stretch(clip) for clip in cache.clips(split, incomplete=True).clips}
    return [one for dataset in datasets for one in dataset.clips if _stretch(one) not in known]


def _stretch(clip: Clip) -> tuple[str, float, float | None]:
    from c4c.extract.library import absolute

    return absolute(clip.path), clip.start, clip.end


def _lengths(clips: Sequence[Clip], config: ExtractConfig) -> list[float]:
    """Seconds of clips: of those with a span, and of some of the others by their last frame."""
    lengths = [clip.end - clip.start for clip in clips if clip.end is not None]
    whole = [clip for clip in clips if clip.end is None]
    some = whole[:: -(-len(whole) // _OPENED) or 1]
    request = Request(max_frames=1, sampling="tail", size=32)
    found = decode_many(some, request, config.workers or cores(), config.deadline)
    with contextlib.closing(found):
        return lengths + [seconds_of(some[n], one.frames.times, 1.0) for n, one in found]


def _measured(clips: Iterable[Clip], config: ExtractConfig) -> Rate | None:
    """How fast the first seconds of the first clip are decoded and encoded, one after the other."""
    backbone = _backbone(config)
    fit, wanted = backbone.preprocessing.fit, _TRIED / config.fps
    for clip in clips:
        stretch = replace(clip, end=min(clip.start + wanted, clip.end or float("1e9")))
        # Twice: the first holds the start of the process.
        found = decode_many([stretch, stretch], request_of(config, fit), 1, config.deadline)
        with contextlib.closing(found):
            pixels = next(found)[1].frames.pixels
            began = time.perf_counter()
            frames = next(found)[1].frames
            decoding = time.perf_counter() - began
        if len(frames):
            seconds = seconds_of(replace(clip, end=None), frames.times, config.fps)
            encoding = _encoding(backbone, torch.from_numpy(pixels), config)
            decoding /= min(config.workers or cores(), cores())
            return Rate(seconds / (decoding + encoding), _width(backbone, config))
    return None


def _backbone(config: ExtractConfig) -> Backbone:
    """The backbone; of a cache that is to begin, by torch: int8 would be calibrated first."""
    folder = cache_folder(config)
    if known := begun(folder):
        return opened_backbone(config, folder, known, ())
    precision = "auto" if config.precision == "int8" else config.precision
    plain = replace(config, backend="torch", precision=precision, allow_int8=False)
    return torch_backbone(plain)


def _encoding(backbone: Backbone, pixels: torch.Tensor, config: ExtractConfig) -> float:
    """Seconds that a clip's frames take the backbone, in batches as an extraction has them."""
    size = config.batch or BATCH
    batch = pixels[:1].expand(size, -1, -1, -1).contiguous()
    began = 0.0
    with torch.inference_mode():
        for _ in range(2):  # the first warms up
            began = time.perf_counter()
            backbone.encode_frames(backbone.preprocess(batch), config.features == "hidden").cpu()
    return (time.perf_counter() - began) * len(pixels) / size


def _width(backbone: Backbone, config: ExtractConfig) -> int:
    return backbone.hidden_dims[0] if config.features == "hidden" else backbone.embed_dim
