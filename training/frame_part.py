"""A frame cache while it is being made, by one process at a time; it goes on where one stopped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Sequence
from functools import partial
from io import BufferedRandom, BufferedWriter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from c4c.core.progress import Progress, say
from c4c.core.records import Clip
from c4c.core.signals import StopRequest
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.video.decode import Decoded
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request
from c4c.training.frame_store import CRCS, FRAMES, LENGTHS, MOST_FRAMES, clip_crc

_SAVE_SECONDS = 15.0  # what a killed run has decoded since then is decoded again


def fitted(done: Decoded, backbone: Backbone) -> npt.NDArray[np.uint8]:
    """Frames [n, 3, S, S] as the backbone takes them; none when there are none."""
    if not len(done.frames):
        return np.zeros((0, 3, backbone.image_size, backbone.image_size), np.uint8)
    pixels = backbone.fit(torch.from_numpy(np.array(done.frames.pixels)))
    found: npt.NDArray[np.uint8] = pixels.contiguous().numpy()
    return found


def sync(stream: BufferedWriter | BufferedRandom) -> None:
    """Make durable what was written."""
    stream.flush()
    os.fsync(stream.fileno())


class FramePart:
    """The frames that there are so far.

    ``lengths.bin`` is written after the frames that it counts and their checksums, so what it
    says is there.

    Args:
        folder: where it is made.
        backbone: for its size and way of resizing.
        clips: all of the split.

    Attributes:
        lengths: frames of the clips that are done.
        crcs: their checksums (``clip_crc``).
    """

    def __init__(self, folder: Path, backbone: Backbone, clips: Sequence[Clip]) -> None:
        self.folder, self.backbone, self.clips = folder, backbone, clips
        self.lengths: list[int] = []
        self.crcs: list[int] = []
        self._saved = 0  # how many of them are in the files
        self._at = time.monotonic()

    def __enter__(self) -> FramePart:
        self._pixels = (self.folder / FRAMES).open("ab")
        self._checks = (self.folder / CRCS).open("ab")
        self._counts = (self.folder / LENGTHS).open("ab")
        try:
            fcntl.flock(self._counts, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that decodes into {self.folder}")
            fcntl.flock(self._counts, fcntl.LOCK_EX)
        if (self.folder / LENGTHS).exists():  # not renamed while this one waited
            self._go_on()
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._pixels, self._checks, self._counts):
            stream.close()

    def _go_on(self) -> None:
        """Keep the clips whose frames are whole; cut off what a killed run left behind them."""
        frame = 3 * self.backbone.image_size**2
        there = (self.folder / FRAMES).stat().st_size
        lengths = _numbers(self.folder / LENGTHS, np.dtype(np.int64))[: len(self.clips)]
        sane = np.append((lengths >= 0) & (lengths <= MOST_FRAMES), False)
        lengths = lengths[: int(np.argmin(sane))]
        whole = int(np.searchsorted(np.cumsum(lengths) * frame, there, "right"))
        self.lengths = lengths[:whole].tolist()
        self.crcs = _numbers(self.folder / CRCS, np.dtype(np.uint32))[:whole].tolist()
        self._pixels.truncate(sum(self.lengths) * frame)
        self._checks.truncate(len(self.crcs) * 4)
        self._counts.truncate(whole * 8)
        self._checks.write(self._missing_crcs(frame))
        self._saved = whole

    def _missing_crcs(self, frame: int) -> bytes:
        """Checksums of the clips that a c4c decoded which did not know of any."""
        first = len(self.crcs)
        with (self.folder / FRAMES).open("rb") as stream:
            stream.seek(sum(self.lengths[:first]) * frame)
            for clip, length in zip(self.clips[first:], self.lengths[first:], strict=False):
                self.crcs.append(clip_crc(clip.id, stream.read(length * frame)))
        return np.array(self.crcs[first:], np.uint32).tobytes()

    def decode(self, request: Request, workers: int) -> None:
        """Frames of all clips that are not there yet.

        Raises:
            Interrupted: somebody asked to stop; what is decoded is kept.
        """
        todo = self.clips[len(self.lengths) :]
        bar = Progress("decode", len(self.clips), done=len(self.lengths))
        with bar as progress, StopRequest() as stop:
            results = decode_many(todo, request, workers, None, partial(self._heed, stop))
            with contextlib.closing(results):
                for place, done in results:
                    self._add(todo[place], done)
                    progress.step()
            self._save()

    def _heed(self, stop: StopRequest) -> None:
        if stop.name:
            self._save()
            raise stop.error(
                f"stopped by {stop.name} after {len(self.lengths)} of {len(self.clips)} "
                "clips were decoded; the same command goes on"
            )

    def _add(self, clip: Clip, done: Decoded) -> None:
        frames = fitted(done, self.backbone)
        self._pixels.write(frames.data)
        if not len(frames):
            say(f"  {clip.id}: {done.status}: {done.message}")
        self.lengths.append(len(frames))
        self.crcs.append(clip_crc(clip.id, frames))
        if time.monotonic() - self._at > _SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        sync(self._pixels)
        self._checks.write(np.array(self.crcs[self._saved :], np.uint32).tobytes())
        sync(self._checks)
        self._counts.write(np.array(self.lengths[self._saved :], np.int64).tobytes())
        sync(self._counts)
        self._saved = len(self.lengths)
        self._at = time.monotonic()


def _numbers(path: Path, kind: np.dtype[np.int64] | np.dtype[np.uint32]) -> npt.NDArray[Any]:
    """The whole numbers in a file; one at the end may have been cut short."""
    data = path.read_bytes()
    return np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
