"""The frame cache: every clip decoded once, resized, as bytes that are mapped into memory.

A folder a split and way of sampling, written aside and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from c4c.errors import C4CError
from c4c.extract.backbone import Backbone
from c4c.extract.decode import Request, decoder_version
from c4c.extract.workers import decode_many
from c4c.files import fsync_folder, read_json, write_json
from c4c.progress import Progress, say
from c4c.records import Clip, Dataset


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
    """
    key = json.dumps(
        [
            [[c.id, c.path, c.start, c.end] for c in dataset.clips],
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
    per_frame = 3 * backbone.image_size**2
    most = request.max_frames or 64
    total = len(dataset.clips)
    say(f"frame cache {target}: at most {total * most * per_frame / 1e9:.2f} GB")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-"))
        try:
            lengths = _decode(aside / "frames.bin", dataset.clips, backbone, request, workers)
            if not any(lengths):
                raise C4CError(f"No clip of {dataset.name} {dataset.split} could be decoded.")
            write_json(
                aside / "index.json",
                {"ids": [clip.id for clip in dataset.clips], "lengths": lengths},
            )
            os.rename(aside, target)
            fsync_folder(target.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        if not (target / "index.json").exists():  # unless another run was quicker
            raise C4CError(f"Cannot write {target}: {error.strerror}.") from None


def _decode(
    path: Path, clips: Sequence[Clip], backbone: Backbone, request: Request, workers: int
) -> list[int]:
    lengths = []
    with path.open("wb") as stream, Progress("decode", len(clips)) as progress:
        for place, done in decode_many(clips, request, workers):
            if not len(done.frames):
                say(f"  {clips[place].id}: {done.status}: {done.message}")
                lengths.append(0)
            else:
                pixels = backbone.fit(torch.from_numpy(np.array(done.frames.pixels)))
                stream.write(pixels.contiguous().numpy().data)
                lengths.append(len(pixels))
            progress.step()
        stream.flush()
        os.fsync(stream.fileno())
    return lengths


def _open(target: Path, size: int) -> FrameStore:
    index: Any = read_json(target / "index.json")
    offsets = np.concatenate([[0], np.cumsum(index["lengths"])]).astype(np.int64)
    total = int(offsets[-1])
    path = target / "frames.bin"
    if not total or path.stat().st_size != total * 3 * size * size:
        raise C4CError(f"{target} holds no usable frames; remove it and look at the videos.")
    pixels = np.memmap(path, np.uint8, "r", shape=(total, 3, size, size))
    return FrameStore(pixels, offsets, tuple(index["ids"]))
