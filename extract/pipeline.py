"""The extraction: data, cache and backbone put together, a plan a split, then part by part."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from c4c.cache.contents import Reader
from c4c.cache.head_init import save_head_init
from c4c.cache.open import Cache, commit_shard, create_cache
from c4c.cache.pieces import pieces_folder, remove_pieces
from c4c.cache.plan import Manifest, Part
from c4c.cache.seen import inherit
from c4c.cache.shard import Shard, make_shard
from c4c.core.config import DatasetSource, dataset_source
from c4c.core.errors import C4CError
from c4c.core.progress import Progress, say
from c4c.core.records import Caption, Clip, Dataset
from c4c.core.signals import StopRequest
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.trusted import remember
from c4c.extract.config import ExtractConfig, ExtractResult
from c4c.extract.copies import copy_clips, decoded_parts
from c4c.extract.datasets import dataset_splits, load_dataset
from c4c.extract.datasets.folder import load_uncaptioned
from c4c.extract.known import known_cache, note_known
from c4c.extract.opening import begun, cache_folder, opened_backbone, settled
from c4c.extract.pace import Pace
from c4c.extract.part import Kept, clip_shard, decoded_frames
from c4c.extract.rates import Rate, note_rate
from c4c.extract.settle import settle, undone
from c4c.extract.video.decode import decoder_version

_TELLING = 20.0  # seconds from which on a run says how fast this machine is


def run_extract(config: ExtractConfig) -> ExtractResult:
    """Extract a dataset's clips and captions into a cache; go on where an earlier run stopped.

    Raises:
        C4CError: data, weights or cache that cannot be used, or too many failures.
    """
    config = settled(config)
    datasets, folder = datasets_of(config), cache_folder(config)
    known = known_cache(folder, config)
    if known is not None:
        manifests = [settle(known, dataset, config) for dataset in datasets]
        if not any(_is_left(known, manifest, config) for manifest in manifests):
            copy_clips(known, manifests)
            return summary(known, manifests)
    cache, manifests, backbone = prepare(config, datasets)
    note_known(folder, cache, backbone, config)
    for manifest in manifests:
        extract_captions(cache, manifest, backbone, config)
        _extract_clips(cache, manifest, backbone, config)
    copy_clips(cache, manifests)
    return summary(cache, manifests)


def _is_left(cache: Cache, manifest: Manifest, config: ExtractConfig) -> bool:
    """Whether something of a plan is still to be extracted by this run."""
    captions = mine(manifest.caption_parts, config)
    return bool(
        _clips_left(cache, manifest, config) or undone(cache, manifest, captions, "captions")
    )


def _clips_left(cache: Cache, manifest: Manifest, config: ExtractConfig) -> list[Part]:
    """The parts whose clips are still to be extracted by this run."""
    parts = mine(decoded_parts(cache, manifest), config)
    left = undone(cache, manifest, parts, "clips")
    for part in set(parts) - set(left):  # a killed run may have left them beside the shard
        remove_pieces(pieces_folder(cache.path, manifest, part))
    return left


def other_decoder(cache: Cache, config: ExtractConfig) -> str:
    """The decoder's version, when it is not the one that the cache was begun with."""
    version = decoder_version(config.decoder)
    return "" if version == cache.fingerprint.decoder else version


def prepare(
    config: ExtractConfig, datasets: Sequence[Dataset] | None = None
) -> tuple[Cache, list[Manifest], Backbone]:
    """Everything before the first frame: the cache, a plan for each split, the backbone.

    Args:
        config: settings.
        datasets: what ``datasets_of`` gives; ``None`` asks it.

    Raises:
        C4CError: data, weights or cache that cannot be used.
    """
    datasets = datasets_of(config) if datasets is None else datasets
    folder = cache_folder(config)
    cache, backbone = open_backbone(folder, config, datasets)
    save_head_init(folder, backbone.head_init(), backbone.sha256)
    inherit(folder, config.pretrained)
    return cache, [settle(cache, dataset, config) for dataset in datasets], backbone


def datasets_of(config: ExtractConfig) -> list[Dataset]:
    """What is to be extracted, a split after the other.

    Raises:
        C4CError: data that cannot be used.
    """
    if config.clips:
        return [Dataset(config.dataset, "all", config.clips)]
    source = replace(
        dataset_source(config.dataset, config.root, config.videos, config.captions),
        only_captioned=config.only_captioned,
        include=config.include,
        exclude=config.exclude,
    )
    return _load(config, source)


def open_backbone(
    folder: Path, config: ExtractConfig, datasets: Sequence[Dataset] = ()
) -> tuple[Cache, Backbone]:
    """The cache and the backbone asked for, once it is known to be made by the very same.

    Args:
        folder: the cache.
        config: how.
        datasets: what is to be extracted, which a cache that begins may need.

    Raises:
        C4CError: weights that cannot be used, or a cache that was made otherwise.
    """
    known = begun(folder)
    config = settled(replace(config, cache=folder))
    decoder = decoder_version(config.decoder)
    clips = [clip for dataset in datasets for clip in dataset.clips]
    backbone = opened_backbone(config, folder, known, clips)
    if known is None and begun(folder):  # by another run meanwhile: what it decided holds
        return open_backbone(folder, config, datasets)
    backbone.tell_preprocessing()
    if config.features == "hidden":
        _ = backbone.hidden_dims  # refused before a frame is decoded where there are none
    sampling = f"fps={config.fps:g} max={config.max_frames} {config.sampling}"
    words = f" words={config.max_words}" if config.max_words else ""
    fingerprint = backbone.fingerprint(
        sampling + words, decoder, config.features, config.batch, config.frames
    )
    cache = create_cache(folder, config.dataset, fingerprint)
    remember(backbone)
    return cache, backbone


def _load(config: ExtractConfig, source: DatasetSource) -> list[Dataset]:
    splits = config.splits or dataset_splits(config.dataset)
    datasets = [load_dataset(source, split, config.strict) for split in splits]
    if config.dataset == "folder" and "all" not in splits and not config.only_captioned:
        rest = load_uncaptioned(source)
        datasets += [rest] if rest.clips else []
    for dataset in datasets:
        for note in dataset.notes:
            say(f"{dataset.name} {dataset.split}: {note}")
    if not any(dataset.clips for dataset in datasets):
        raise C4CError(
            f"{config.dataset}: no clip has a video under {source.video_root}; "
            "pass --videos FOLDER, or check: c4c dataset check " + config.dataset
        )
    return datasets


def mine(parts: Sequence[Part], config: ExtractConfig) -> list[Part]:
    """Those of ``parts`` that ``--slice`` leaves to this run."""
    part, count = config.shard_slice
    return list(parts[part::count])


def _extract_clips(
    cache: Cache, manifest: Manifest, backbone: Backbone, config: ExtractConfig
) -> None:
    clips = {clip.id: clip for clip in manifest.clips}
    todo = _clips_left(cache, manifest, config)
    if not todo:
        return
    total = sum(len(part.ids) for part in mine(decoded_parts(cache, manifest), config))
    stamps = {clip.path: manifest.files.get(clip.path, "") for clip in manifest.clips}
    with Reader(cache.path, manifest.number, stamps) as reader:
        work = [(part, Kept.of(cache, manifest, part, reader)) for part in todo]
        _extract_parts(cache, manifest, backbone, config, work, clips, total)


def _extract_parts(
    cache: Cache,
    manifest: Manifest,
    backbone: Backbone,
    config: ExtractConfig,
    work: Sequence[tuple[Part, Kept]],
    clips: dict[str, Clip],
    total: int,
) -> None:
    left = [clips[name] for part, kept in work for name in part.ids[kept.done :]]
    failed, decoder = 0, other_decoder(cache, config)
    bar = Pace(f"extract {manifest.split}", total, total - len(left))
    with contextlib.ExitStack() as opened:
        progress, stop = opened.enter_context(bar), opened.enter_context(StopRequest())
        decoded = decoded_frames(left, backbone, config, stop)
        opened.enter_context(contextlib.closing(decoded))
        for part, kept in work:
            own = [clips[name] for name in part.ids]
            shard = clip_shard(own, decoded, backbone, config, progress, kept, decoder)
            kept.commit(cache, manifest.shard_path(cache.path, part, "clips"), shard)
            failed += int((np.diff(shard.offsets) == 0).sum())
            if failed > config.max_fail_rate * total:
                raise C4CError(
                    f"{failed} of {total} clips of '{manifest.split}' have failed, more than "
                    f"--max-fail-rate {config.max_fail_rate:g}; see: c4c cache info {cache.path}"
                )
    if bar.spent > _TELLING and bar.seconds:
        note_rate(config, cache.fingerprint, Rate(bar.seconds / bar.spent, shard.features.shape[1]))


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
    views = [cache.clips(manifest.split, incomplete=True) for manifest in planned]
    return ExtractResult(
        cache=cache.path,
        clips=sum(map(len, views)),
        expected=sum(view.expected for view in views),
        failed=tuple(failure for view in views for failure in view.failed),
        complete=not any(view.pending for view in views),
        noted=tuple(note for view in views for note in view.noted),
    )
