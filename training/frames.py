"""Frames for end-to-end training: from a cache on disk, or decoded whenever they are wanted.

The frame cache holds every clip decoded once, resized, as bytes that are mapped into memory: a
folder a split and way of sampling, written aside and renamed when it is whole; a run that was
stopped or killed on the way is gone on with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from c4c.errors import C4CError
from c4c.extract.backbone import Backbone
from c4c.extract.decode import Decoded, Request, decoder_version
from c4c.extract.stamps import file_stamps
from c4c.extract.workers import decode_many
from c4c.files import fsync_folder, read_json, write_json
from c4c.lock import FILE as LOCK
from c4c.lock import one_writer
from c4c.progress import Progress, say
from c4c.records import Clip, Dataset
from c4c.signals import StopRequest

_AHEAD = 64  # clips that are decoded before they are wanted
_SAVE_SECONDS = 15.0  # what a killed run has decoded since then is decoded again


@dataclass(frozen=True)
class FrameStore:
    """Frames of a split's clips.

    Attributes:
        pixels: uint8 [F, 3, S, S], mapped.
        offsets: int64 [N + 1]; clip i has frames ``offsets[i]`` to ``offsets[i + 1]``.
        ids: clip ids [N]; clips that could not be decoded have no frames.
    """

    pixels: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    ids: tuple[str, ...]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Frames of each clip [N]."""
        return np.diff(self.offsets)

    def stream(self, places: Iterable[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """Frames [n, 3, S, S] of clips, one after the other."""
        for place in places:
            yield self.pixels[self.offsets[place] : self.offsets[place + 1]]


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
        ahead = threading.Thread(target=self._decode, args=(clips, ready, done), daemon=True)
        ahead.start()
        try:
            for clip in clips:
                found = ready.get()
                if isinstance(found, BaseException):
                    raise found
                if not len(found.frames) and clip.id not in self._told:
                    self._told.add(clip.id)
                    say(f"  {clip.id}: {found.status}: {found.message}")
                yield _fitted(found, self._backbone)
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


def _fitted(done: Decoded, backbone: Backbone) -> npt.NDArray[np.uint8]:
    """Frames [n, 3, S, S] as the backbone takes them; none when there are none."""
    if not len(done.frames):
        return np.zeros((0, 3, backbone.image_size, backbone.image_size), np.uint8)
    pixels = backbone.fit(torch.from_numpy(np.array(done.frames.pixels)))
    found: npt.NDArray[np.uint8] = pixels.contiguous().numpy()
    return found


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
    key = json.dumps(
        [
            [[c.id, c.path, c.start, c.end] for c in dataset.clips],
            file_stamps(clip.path for clip in dataset.clips),  # a file may be replaced
            [request.fps, request.max_frames, request.sampling],
            [backbone.image_size, backbone.interpolation, decoder_version(request.decoder)],
        ]
    )
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    target = folder / f"{dataset.split}-{digest}"
    if not target.exists():
        _build(target, dataset, backbone, request, workers)
    return _open(target, backbone.image_size)


def _build(
    target: Path, dataset: Dataset, backbone: Backbone, request: Request, workers: int
) -> None:
    aside = target.parent / f".{target.name}.part"
    most = (request.max_frames or 64) * 3 * backbone.image_size**2
    try:
        with one_writer(aside, wait=True), _Part(aside, backbone) as part:
            if target.exists():  # another run was quicker
                shutil.rmtree(aside, ignore_errors=True)
                return
            left = (len(dataset.clips) - len(part.lengths)) * most
            say(f"frame cache {target}: at most {left / 1e9:.2f} GB more")
            part.decode(dataset.clips, request, workers)
            if not any(part.lengths):
                raise C4CError(f"No clip of {dataset.name} {dataset.split} could be decoded.")
            ids = [clip.id for clip in dataset.clips]
            write_json(aside / "index.json", {"ids": ids, "lengths": part.lengths})
            os.rename(aside, target)
            (target / LOCK).unlink(missing_ok=True)  # it came along
            fsync_folder(target.parent)
    except OSError as error:
        raise C4CError(f"Cannot write {target}: {error.strerror}.") from None


class _Part:
    """A frame cache that is being made, by one process; it goes on where another one stopped.

    ``lengths.bin`` is written after the frames that it counts, so what it says is there.
    """

    def __init__(self, folder: Path, backbone: Backbone) -> None:
        self.folder, self.backbone = folder, backbone
        self.lengths: list[int] = []
        self._saved = 0  # how many of them are in the file
        self._at = time.monotonic()

    def __enter__(self) -> _Part:
        self._pixels = (self.folder / "frames.bin").open("ab")
        self._counts = (self.folder / "lengths.bin").open("ab")
        self._go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._pixels.close()
        self._counts.close()

    def _go_on(self) -> None:
        """Keep the clips whose frames are whole; cut off what a killed run left behind them."""
        frame = 3 * self.backbone.image_size**2
        there = (self.folder / "frames.bin").stat().st_size
        found = (self.folder / "lengths.bin").read_bytes()
        lengths = np.frombuffer(found[: len(found) // 8 * 8], np.int64)
        whole = int(np.searchsorted(np.cumsum(lengths) * frame, there, "right"))
        self.lengths = lengths[:whole].tolist()
        self._saved = whole
        self._pixels.truncate(sum(self.lengths) * frame)
        self._counts.truncate(whole * 8)

    def decode(self, clips: Sequence[Clip], request: Request, workers: int) -> None:
        """Frames of all clips that are not there yet.

        Raises:
            Interrupted: somebody asked to stop; what is decoded is kept.
        """
        todo = clips[len(self.lengths) :]
        bar = Progress("decode", len(clips), done=len(self.lengths))
        results = decode_many(todo, request, workers)
        with bar as progress, StopRequest() as stop, contextlib.closing(results):
            for place, done in results:
                if stop.name:
                    self._save()
                    raise stop.error(
                        f"stopped by {stop.name} after {len(self.lengths)} of {len(clips)} clips "
                        "were decoded; the same command goes on"
                    )
                self._add(todo[place], done)
                progress.step()
        self._save()

    def _add(self, clip: Clip, done: Decoded) -> None:
        self._pixels.write(_fitted(done, self.backbone).tobytes())
        if not len(done.frames):
            say(f"  {clip.id}: {done.status}: {done.message}")
        self.lengths.append(len(done.frames))
        if time.monotonic() - self._at > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        _sync(self._pixels)
        self._counts.write(np.array(self.lengths[self._saved :], np.int64).tobytes())
        _sync(self._counts)
        self._saved = len(self.lengths)
        self._at = time.monotonic()


def _sync(stream: BufferedWriter) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _open(target: Path, size: int) -> FrameStore:
    index: Any = read_json(target / "index.json")
    offsets = np.concatenate([[0], np.cumsum(index["lengths"])]).astype(np.int64)
    total = int(offsets[-1])
    path = target / "frames.bin"
    if not total or path.stat().st_size != total * 3 * size * size:
        raise C4CError(f"{target} holds no usable frames; remove it and look at the videos.")
    pixels = np.memmap(path, np.uint8, "r", shape=(total, 3, size, size))
    return FrameStore(pixels, offsets, tuple(index["ids"]))
