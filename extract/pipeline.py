"""The extraction: decoder processes feed batches that are filled across clips, shard by shard.

What a shard holds depends on its slice of the plan alone: batches begin with the shard and
follow the clips' order. So features are the same whatever was killed, or ran beside it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from c4c.cache.head_init import save_head_init
from c4c.cache.open import DEFAULT, Cache, Failure, commit_shard, create_cache
from c4c.cache.plan import Manifest, Part, load_manifests, plan, same_data, save_manifest
from c4c.cache.seen import inherit
from c4c.cache.shard import STATUS, Shard, make_shard
from c4c.cache.stamps import file_stamps
from c4c.cache.stored import holds, read_shard
from c4c.core.config import DatasetSource, dataset_source
from c4c.core.errors import C4CError
from c4c.core.inside import is_there
from c4c.core.progress import Progress, say
from c4c.core.records import Caption, Clip, Dataset
from c4c.core.signals import StopRequest
from c4c.extract.backbone.backbone import Backbone, load_backbone
from c4c.extract.backbone.encoder import Encoder
from c4c.extract.backbone.trusted import remember
from c4c.extract.config import BATCH, ExtractConfig, ExtractResult
from c4c.extract.datasets import dataset_splits, load_dataset
from c4c.extract.video.decode import Request, decoder_version
from c4c.extract.video.pool import Ended, Piece, decode_pieces, without_frames


def run_extract(config: ExtractConfig) -> ExtractResult:
    """Extract a dataset's clips and captions into a cache; go on where an earlier run stopped.

    Raises:
        C4CError: data, weights or cache that cannot be used, or too many failures.
    """
    config = settled(config)
    cache, manifests, backbone = prepare(config)
    for manifest in manifests:
        extract_captions(cache, manifest, backbone, config)
        _extract_clips(cache, manifest, backbone, config)
    return summary(cache, manifests)


def cache_folder(config: ExtractConfig) -> Path:
    """Where the features go."""
    return config.cache or DEFAULT / config.dataset


def settled(config: ExtractConfig) -> ExtractConfig:
    """``config`` with the batch in which the cache was begun, when it asks for none.

    Raises:
        C4CError: a cache that cannot be read.
    """
    folder = cache_folder(config)
    if config.batch is not None:
        return config
    known = is_there(folder / "cache.json", folder) and Cache.open(folder).fingerprint.batch
    return replace(config, batch=known or BATCH)


def prepare(config: ExtractConfig) -> tuple[Cache, list[Manifest], Backbone]:
    """Everything before the first frame: the cache, a plan for each split, the backbone.

    Raises:
        C4CError: data, weights or cache that cannot be used.
    """
    if config.clips:
        datasets = [Dataset(config.dataset, "all", config.clips)]
    else:
        source = dataset_source(config.dataset, config.root, config.videos, config.captions)
        datasets = _load(config, source)
    folder = cache_folder(config)
    cache, backbone = open_backbone(folder, config)
    save_head_init(folder, backbone.head_init(), backbone.sha256)
    inherit(folder, config.pretrained)
    return cache, [_settle(cache, dataset, config) for dataset in datasets], backbone


def open_backbone(folder: Path, config: ExtractConfig) -> tuple[Cache, Backbone]:
    """The cache and the backbone asked for, once it is known to be made by the very same.

    Raises:
        C4CError: weights that cannot be used, or a cache that was made otherwise.
    """
    decoder = decoder_version(config.decoder)
    backbone = load_backbone(config.backbone, config.pretrained, config.device, config.precision)
    sampling = f"fps={config.fps:g} max={config.max_frames} {config.sampling}"
    words = f" words={config.max_words}" if config.max_words else ""
    batch = config.batch or BATCH
    fingerprint = backbone.fingerprint(
        sampling + words, decoder, config.features, batch, config.compile
    )
    cache = create_cache(folder, config.dataset, fingerprint)
    remember(backbone)
    return cache, backbone


def _load(config: ExtractConfig, source: DatasetSource) -> list[Dataset]:
    splits = config.splits or dataset_splits(config.dataset)
    datasets = [load_dataset(source, split, config.strict) for split in splits]
    for dataset in datasets:
        for note in dataset.notes:
            say(f"{dataset.name} {dataset.split}: {note}")
    if not any(dataset.clips for dataset in datasets):
        raise C4CError(
            f"{config.dataset}: no clip has a video under {source.video_root}; "
            "pass --videos FOLDER, or check: c4c dataset check " + config.dataset
        )
    return datasets


def _settle(cache: Cache, dataset: Dataset, config: ExtractConfig) -> Manifest:
    """The plan for this split: the one that holds, or a new one when data or wishes changed."""
    before = load_manifests(cache.path).get(dataset.split)
    again: frozenset[str] = frozenset()
    # A plan that was cut short is finished first: failures are known when all shards are there.
    if before and config.retry_failed and not undone(cache, before, before.parts, "clips"):
        failed = Cache.open(cache.path).clips(dataset.split).failed
        again = frozenset(failure.clip_id for failure in failed)
    files = file_stamps(clip.path for clip in dataset.clips)
    again |= _replaced(before, dataset, files)
    if before and same_data(before, dataset) and not again:
        return before
    manifest = plan(dataset, before, config.shard_clips, again, files)
    save_manifest(cache.path, manifest)
    return manifest


def _replaced(before: Manifest | None, dataset: Dataset, files: dict[str, str]) -> frozenset[str]:
    """Ids of the clips whose video is another one than when it was planned; says so."""
    found = before.replaced(files) & {clip.id for clip in dataset.clips} if before else frozenset()
    if found:
        say(
            f"{dataset.name} {dataset.split}: the videos of {len(found)} clips were replaced "
            f"(first '{min(found)}'); they are extracted again"
        )
    return found


def undone(cache: Cache, manifest: Manifest, parts: Sequence[Part], kind: str) -> list[Part]:
    """Those of ``parts`` whose shard is not there yet.

    Raises:
        Misplaced: another cache's shard stands there, or a link, or a folder.
    """
    paths = {part: manifest.shard_path(cache.path, part, kind) for part in parts}
    return [part for part, path in paths.items() if not holds(path, cache.owner)]


def mine(parts: Sequence[Part], config: ExtractConfig) -> list[Part]:
    """Those of ``parts`` that ``--shard-slice`` leaves to this run."""
    part, count = config.shard_slice
    return list(parts[part::count])


def _extract_clips(
    cache: Cache, manifest: Manifest, backbone: Backbone, config: ExtractConfig
) -> None:
    clips = {clip.id: clip for clip in manifest.clips}
    parts = mine(manifest.parts, config)
    todo = undone(cache, manifest, parts, "clips")
    total = sum(len(part.ids) for part in parts)
    done = total - sum(len(part.ids) for part in todo)
    if not todo:
        return
    decoded = _decoded([clips[name] for part in todo for name in part.ids], backbone, config)
    failed = 0
    bar = Progress(f"extract {manifest.split}", total, done=done)
    with bar as progress, StopRequest() as stop, contextlib.closing(decoded):
        for part in todo:
            shard = _clip_shard(
                [clips[name] for name in part.ids],
                _until(stop, decoded),
                backbone,
                config,
                progress,
            )
            commit_shard(cache, manifest.shard_path(cache.path, part, "clips"), shard)
            failed += int((np.diff(shard.offsets) == 0).sum())
            if failed > config.max_fail_rate * total:
                raise C4CError(
                    f"{failed} of {total} clips of '{manifest.split}' have failed, more than "
                    f"--max-fail-rate {config.max_fail_rate:g}; see: c4c cache info {cache.path}"
                )


def _decoded(
    clips: Sequence[Clip], backbone: Backbone, config: ExtractConfig
) -> Generator[Piece | Ended, None, None]:
    """Frames of ``clips`` in order, at the size that the backbone takes."""
    request = Request(
        config.fps, config.max_frames, config.sampling, config.decoder, backbone.image_size
    )
    workers = config.workers or len(os.sched_getaffinity(0))
    return decode_pieces(clips, request, workers, config.deadline)


def extract_part(
    clips: Sequence[Clip],
    backbone: Backbone,
    config: ExtractConfig,
    killers: frozenset[str] = frozenset(),
) -> Shard:
    """The shard of ``clips``, as every engine makes it.

    Args:
        clips: those of one part of the plan, in its order.
        backbone: what encodes them.
        config: how.
        killers: ids of clips that end the process that handles them: failed, untried.
    """
    tried = _decoded([clip for clip in clips if clip.id not in killers], backbone, config)
    with contextlib.closing(tried), Progress("part", len(clips)) as progress:
        decoded = _but(killers, clips, tried)
        return _clip_shard(clips, decoded, backbone, config, progress)


def _but(
    killers: frozenset[str], clips: Sequence[Clip], tried: Iterator[Piece | Ended]
) -> Iterator[Piece | Ended]:
    """What was decoded of ``clips``, and for the killers among them that they have failed."""
    for clip in clips:
        if clip.id in killers:
            yield without_frames("failed", "the process that handled it died, whenever tried")
            continue
        for part in tried:
            yield part
            if isinstance(part, Ended):
                break


def _until(stop: StopRequest, decoded: Iterator[Piece | Ended]) -> Iterator[Piece | Ended]:
    """Pass on what was decoded until somebody asks to stop."""
    for one in decoded:
        if stop.name:
            raise stop.error(
                f"stopped by {stop.name}; whole shards are kept: the same command goes on"
            )
        yield one


def _clip_shard(
    clips: Sequence[Clip],
    decoded: Iterator[Piece | Ended],
    backbone: Backbone,
    config: ExtractConfig,
    progress: Progress,
) -> Shard:
    """Features of one shard's clips; batches are filled across clips."""
    if config.compile:
        backbone.compile_vision(config.batch or BATCH, config.features == "hidden")
    encoder = Encoder(backbone, config.batch or BATCH, config.features == "hidden")
    times, status, messages = [], [], []
    for part in decoded:
        if isinstance(part, Piece):
            encoder.add(part.pixels, part.first)
            continue
        encoder.end(len(part.times))
        times.append(part.times)
        status.append(part.status)
        messages.append(part.message)
        progress.step(extra=f"{progress.rate() * encoder.frames / len(times):.0f} frames/s")
        if len(times) == len(clips):
            break
    rows = encoder.finish()
    for place, row in enumerate(rows):
        if not np.isfinite(row).all():
            rows[place], times[place] = row[:0], times[place][:0]
            status[place] = "corrupt"
            messages[place] = "the backbone gave features that are not finite"
    texts = {"ids": [clip.id for clip in clips], "messages": messages}
    return make_shard("clips", rows, times, status, texts, encoder.width)


def extract_captions(
    cache: Cache, manifest: Manifest, backbone: Backbone, config: ExtractConfig
) -> None:
    """Extract the captions of a plan that are not there yet."""
    captions = {caption.id: caption for caption in manifest.captions}
    parts = mine(manifest.caption_parts, config)
    todo = undone(cache, manifest, parts, "captions")
    if not todo:
        return
    total = sum(len(part.ids) for part in todo)
    with Progress(f"captions {manifest.split}", total, "captions") as progress:
        for part in todo:
            shard = _caption_shard([captions[name] for name in part.ids], backbone, config)
            commit_shard(cache, manifest.shard_path(cache.path, part, "captions"), shard)
            progress.step(len(part.ids))


def _caption_shard(captions: Sequence[Caption], backbone: Backbone, config: ExtractConfig) -> Shard:
    import torch

    rows: list[Any] = []
    with torch.inference_mode():
        for first in range(0, len(captions), 256):
            texts = [caption.text for caption in captions[first : first + 256]]
            tokens = backbone.tokenize(texts, config.max_words)
            features = backbone.encode_text(tokens, config.features == "hidden")
            rows += list(features.to(torch.float16).cpu().numpy()[:, None])
    texts_of = {
        "ids": [caption.id for caption in captions],
        "clip_ids": [caption.clip_id for caption in captions],
        "texts": [caption.text for caption in captions],
    }
    times = [np.zeros(1, np.float32)] * len(rows)
    return make_shard("captions", rows, times, ["ok"] * len(rows), texts_of, rows[0].shape[1])


def summary(begun: Cache, planned: Sequence[Manifest]) -> ExtractResult:
    """What the cache holds now of the splits that were planned.

    Raises:
        C4CError: shards that are damaged.
    """
    cache = Cache.open(begun.path)
    manifests = [cache.manifests[manifest.split] for manifest in planned]
    paths = [m.shard_path(cache.path, part, "clips") for m in manifests for part in m.parts]
    there = [path for path in paths if holds(path, cache.owner)]
    complete = len(there) == len(paths)
    expected = sum(len(m.clips) + len(m.missing) for m in manifests)
    if not complete:
        return _summary_so_far(cache, there, expected)
    views = [cache.clips(manifest.split) for manifest in manifests]
    failed = tuple(failure for view in views for failure in view.failed)
    return ExtractResult(cache.path, sum(map(len, views)), expected, failed, True)


def _summary_so_far(cache: Cache, there: Sequence[Path], expected: int) -> ExtractResult:
    """What the shards that are there hold, while others are still to come."""
    good, failed = 0, []
    for path in there:
        shard = read_shard(path, cache.owner)
        lengths = np.diff(shard.offsets)
        good += int((lengths > 0).sum())
        for place in np.flatnonzero(lengths == 0):
            name, message = (shard.texts[key][place] for key in ("ids", "messages"))
            failed.append(Failure(name, STATUS[shard.status[place]], message))
    return ExtractResult(cache.path, good, expected, tuple(failed), False)
