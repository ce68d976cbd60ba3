"""Frames for end-to-end training: from a cache on disk, or decoded whenever they are wanted.

The frame cache holds every clip decoded once, resized, as bytes that are mapped into memory: a
folder a split and way of sampling, written aside and renamed when it is whole; a run that was
stopped or killed on the way is gone on with.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import json
import os
import queue
import re
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.cache.stamps import file_stamps
from c4c.core.errors import C4CError
from c4c.core.files import fsync_folder
from c4c.core.lock import FILE as LOCK
from c4c.core.lock import one_writer
from c4c.core.progress import say
from c4c.core.records import Clip, Dataset
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.video.decode import Decoded, decoder_version
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request
from c4c.extract.video.rules import RULES
from c4c.training.frame_part import FramePart, fitted, sync
from c4c.training.frame_store import (
    FRAMES,
    INDEX,
    FrameStore,
    Index,
    clip_crc,
    read_index,
    write_index,
)

_AHEAD = 64  # clips that are decoded before they are wanted


class DecodedFrames:
    """The same from the videos, decoded each time they are wanted: no disk, more work.

    Args:
        dataset: the split.
        backbone: for its size and way of resizing.
        request: rate, most frames, decoder.
        workers: decoder processes.
    """

    def __init__(
        self, dataset: Dataset, backbone: Backbone, request: Request, workers: int
    ) -> None:
        self.clips, self.ids = dataset.clips, tuple(clip.id for clip in dataset.clips)
        self.lengths = np.ones(len(self.ids), np.int64)  # whether any fails is found out later
        self._backbone, self._request, self._workers = backbone, request, workers
        self._told: set[str] = set()

    def stream(self, places: Iterable[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """Frames [n, 3, S, S] of clips, one after the other; decoded ahead while others train.

        A clip that cannot be decoded has none, and a line says so once.
        """
        clips = [self.clips[place] for place in places]
        ready: queue.Queue[Decoded | BaseException] = queue.Queue(_AHEAD)
        done = threading.Event()
        # In a copy of this context, so that its progress is heard where ours is.
        work = (contextvars.copy_context().run, (self._decode, clips, ready, done))
        ahead = threading.Thread(target=work[0], args=work[1], daemon=True)
        ahead.start()
        try:
            for clip in clips:
                found = ready.get()
                if isinstance(found, BaseException):
                    raise found
                if not len(found.frames) and clip.id not in self._told:
                    self._told.add(clip.id)
                    say(f"  {clip.id}: {found.status}: {found.message}")
                yield fitted(found, self._backbone)
        finally:
            done.set()

    def _decode(self, clips: list[Clip], ready: queue.Queue[Any], done: threading.Event) -> None:
        """What the thread does: fill the queue until nobody takes from it."""
        try:
            with contextlib.closing(decode_many(clips, self._request, self._workers)) as results:
                for _, one in results:
                    while not done.is_set():
                        with contextlib.suppress(queue.Full):
                            ready.put(one, timeout=0.2)
                            break
                    if done.is_set():
                        return
        except BaseException as error:  # whoever waits for frames has to know
            ready.put(error)


def open_frames(
    folder: Path, dataset: Dataset, backbone: Backbone, request: Request, workers: int
) -> FrameStore:
    """The frames of a split, decoded now if they were not before.

    Args:
        folder: of the frame caches of this dataset.
        dataset: the split.
        backbone: for its size and way of resizing.
        request: rate, most frames, decoder.
        workers: decoder processes.

    Raises:
        C4CError: nothing could be decoded, or the cache cannot be written.
        Interrupted: stopped on request; the next call goes on.
    """
    target, made_of = frames_folder(folder, dataset, backbone, request)
    _reopen(target)
    if not target.exists():
        _build(target, made_of, dataset, backbone, request, workers)
    index = read_index(target)
    ids = tuple(clip.id for clip in dataset.clips)
    if index.ids != ids or index.made_of not in (None, made_of):
        raise C4CError(
            f"{target} is the frame cache of other clips or settings; move it away, and the same "
            "command makes its own."
        )
    if index.damaged():
        index = _decode_again(target, index, dataset, backbone, request, workers)
    return FrameStore.open(target, index, backbone.image_size)


def frames_folder(
    folder: Path, dataset: Dataset, backbone: Backbone, request: Request
) -> tuple[Path, str]:
    """Where the frames of a split lie, and the digest of what they are made of."""
    key = json.dumps(
        [
            [[c.id, c.path, c.start, c.end] for c in dataset.clips],
            file_stamps(clip.path for clip in dataset.clips),  # a file may be replaced
            [request.fps, request.max_frames, request.sampling],
            [backbone.image_size, *_way(backbone), decoder_version(request.decoder), RULES],
        ]
    )
    made_of = hashlib.sha256(key.encode()).hexdigest()
    split = re.sub(r"[^A-Za-z0-9_.-]", "_", dataset.split)  # a table of captions may say anything
    return folder / f"{split}-{made_of[:16]}", made_of


def _way(backbone: Backbone) -> list[Any]:
    """How frames are resized, in as few words as ever where CLIP's own way is enough."""
    made = backbone.preprocessing
    usual = made.resize == "shortest"
    return [made.interpolation] if usual else [made.interpolation, made.resize, made.fill]


def _aside(target: Path) -> Path:
    """Where a frame cache is made before it stands under its name."""
    return target.parent / f".{target.name}.part"


def _reopen(target: Path) -> None:
    """A frame cache that lost its index is one that is being made: what it has is kept."""
    if target.exists() and not (target / INDEX).exists():
        try:
            os.rename(target, _aside(target))
        except FileNotFoundError:
            return  # another run was quicker
        except OSError as error:
            raise C4CError(f"Cannot write {target}: {error.strerror}.") from None


def _build(
    target: Path,
    made_of: str,
    dataset: Dataset,
    backbone: Backbone,
    request: Request,
    workers: int,
) -> None:
    aside = _aside(target)
    most = (request.max_frames or 64) * 3 * backbone.image_size**2
    try:
        with one_writer(aside, wait=True), FramePart(aside, backbone, dataset.clips) as part:
            if target.exists():  # another run was quicker
                shutil.rmtree(aside, ignore_errors=True)
                return
            left = (len(dataset.clips) - len(part.lengths)) * most
            say(f"frame cache {target}: at most {left / 1e9:.2f} GB more")
            part.decode(request, workers)
            if not any(part.lengths):
                raise C4CError(f"No clip of {dataset.name} {dataset.split} could be decoded.")
            ids = tuple(clip.id for clip in dataset.clips)
            counts, crcs = tuple(part.lengths), tuple(part.crcs)
            write_index(aside, Index(ids, counts, backbone.image_size, made_of, crcs))
            os.rename(aside, target)
            (target / LOCK).unlink(missing_ok=True)  # it came along
            fsync_folder(target.parent)
    except OSError as error:
        raise C4CError(f"Cannot write {target}: {error.strerror}.") from None


def _decode_again(
    target: Path,
    index: Index,
    dataset: Dataset,
    backbone: Backbone,
    request: Request,
    workers: int,
) -> Index:
    """Decode the clips that are damaged, in place; the index says so when they are on the disk.

    Raises:
        C4CError: a clip has other frames now, or the cache cannot be written.
    """
    damaged = index.damaged()
    say(f"{target}: decoding {len(damaged)} damaged clips again")
    bounds = np.cumsum([0, *index.lengths]) * 3 * backbone.image_size**2
    crcs = list(index.crc32 or ())
    clips = [dataset.clips[place] for place in damaged]
    try:
        (target / FRAMES).touch()  # it may be lost as a whole
        results = decode_many(clips, request, workers)
        with (target / FRAMES).open("rb+") as stream, contextlib.closing(results):
            for number, done in results:
                place, frames = damaged[number], fitted(done, backbone)
                if len(frames) != index.lengths[place]:
                    raise C4CError(
                        f"{target}: '{clips[number].id}' has {len(frames)} frames now, and had "
                        f"{index.lengths[place]}; remove the folder, and look at the video."
                    )
                stream.seek(int(bounds[place]))
                stream.write(frames.tobytes())
                crcs[place] = clip_crc(clips[number].id, frames)
            stream.truncate(int(bounds[-1]))
            sync(stream)
    except OSError as error:
        raise C4CError(f"Cannot write {target}: {error.strerror}.") from None
    repaired = replace(index, crc32=tuple(crcs))
    write_index(target, repaired)
    return repaired
