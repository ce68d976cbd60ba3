"""The work of one part of the plan: decoded clips in, its shard out, in pieces if need be.

What a shard holds depends on its slice of the plan alone: batches begin with the shard and
follow the clips' order, also across an interruption. So features are the same whatever was
killed, or ran beside it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from c4c.cache.contents import Reader
from c4c.cache.identity import Owner
from c4c.cache.open import Cache, commit_shard
from c4c.cache.pieces import pieces_folder, pieces_of, remove_pieces, write_piece
from c4c.cache.plan import Manifest, Part
from c4c.cache.shard import STATUS, Shard, make_shard
from c4c.core.cores import cores
from c4c.core.errors import C4CError, Interrupted
from c4c.core.fit import Fit
from c4c.core.records import Clip
from c4c.core.signals import StopRequest
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.encoder import Encoder
from c4c.extract.backbone.patch3d import has_patch3d
from c4c.extract.config import BATCH, ExtractConfig
from c4c.extract.pace import Pace
from c4c.extract.sharing import SharingEncoder
from c4c.extract.video.pool import Ended, Piece, decode_pieces, without_frames
from c4c.extract.video.request import Request
from c4c.extract.video.rules import RULES

Decoded = Iterator[Piece | Ended]
_EVERY = 60.0  # seconds after which whole clips are kept, though their shard is not complete


@dataclass(slots=True)
class _Rows:
    """What is to become a shard: a row a clip."""

    features: list[npt.NDArray[np.float16]] = field(default_factory=list)
    times: list[npt.NDArray[np.float32]] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    decoders: set[str] = field(default_factory=set)
    rules: int = RULES

    def __len__(self) -> int:
        return len(self.status)

    def take(self, shard: Shard) -> None:
        """Add the rows of a shard."""
        self.decoders.add(shard.decoder)
        self.rules = min(self.rules, shard.rules)
        for place, code in enumerate(shard.status):
            self.features.append(shard.row(place))
            self.times.append(shard.seconds(place))
            self.status.append(STATUS[code])
            self.messages.append(shard.texts["messages"][place])

    def shard(self, clips: Sequence[Clip], width: int, first: int = 0) -> Shard:
        """The shard of the rows from ``first`` on; those that are not finite are corrupt."""
        features, times = self.features[first:], self.times[first:]
        status, messages = self.status[first:], self.messages[first:]
        for place, row in enumerate(features):
            if not np.isfinite(row).all():
                features[place], times[place] = row[:0], times[place][:0]
                status[place] = "corrupt"
                messages[place] = "the backbone gave features that are not finite"
        ids = [clip.id for clip in clips[first : first + len(status)]]
        texts = {"ids": ids, "messages": messages}
        return make_shard("clips", features, times, status, texts, width, self.rules, self.decoders)


class Kept:
    """What earlier runs left of a part's shard, and what this one leaves when it is stopped.

    Args:
        folder: where the part's pieces lie.
        ids: of the part's clips.
        owner: the cache.
        reader: keeps digests of the files that were decoded.

    Attributes:
        done: how many of the clips are in pieces.
        frames: frames that were encoded for them.
    """

    def __init__(self, folder: Path, ids: Sequence[str], owner: Owner, reader: Reader) -> None:
        self._folder, self._owner, self._reader = folder, owner, reader
        self._pieces = pieces_of(folder, ids, owner)
        last = self._pieces[-1] if self._pieces else None
        self.done, self.frames = (last.last, last.frames) if last else (0, 0)
        self._kept, self._since = self.done, time.monotonic()

    @classmethod
    def of(cls, cache: Cache, manifest: Manifest, part: Part, reader: Reader) -> Kept:
        """What there is of a part of a plan."""
        return cls(pieces_folder(cache.path, manifest, part), part.ids, cache.owner, reader)

    def rows(self) -> _Rows:
        """The rows that earlier runs left."""
        rows = _Rows()
        for piece in self._pieces:
            rows.take(piece.shard)
        return rows

    @property
    def due(self) -> bool:
        """Whether it is time to keep what is whole."""
        return time.monotonic() - self._since >= _EVERY

    def keep(self, rows: _Rows, clips: Sequence[Clip], encoder: Encoder) -> None:
        """Commit the clips that have ended since the last piece.

        Raises:
            C4CError: they cannot be written.
        """
        self._since = time.monotonic()
        if len(rows) == self._kept:
            return
        rows.features[self.done :] = encoder.so_far()
        shard = rows.shard(clips, encoder.width, self._kept)
        self._reader.write()
        write_piece(self._folder, self._kept, encoder.ended, shard, self._owner)
        self._kept = len(rows)

    def ended(self, clip: Clip) -> None:
        """A clip has ended: its file is read whole while the system has it at hand."""
        self._reader.read(clip.path)

    def commit(self, cache: Cache, path: Path, shard: Shard) -> None:
        """Commit the whole shard, which takes the place of its pieces.

        Raises:
            C4CError: it cannot be written.
        """
        self._reader.write()
        commit_shard(cache, path, shard)
        remove_pieces(self._folder)


def request_of(config: ExtractConfig, fit: Fit) -> Request:
    """How clips are sampled, at the size that a backbone takes."""
    return Request(
        config.fps,
        config.max_frames,
        config.sampling,
        config.decoder,
        fit,
        config.frame_mode,
        config.max_gap,
    )


def decoded_frames(
    clips: Sequence[Clip],
    backbone: Backbone,
    config: ExtractConfig,
    stop: StopRequest | None = None,
) -> Generator[Piece | Ended, None, None]:
    """Frames of ``clips`` in order, at the size that the backbone takes.

    Raises:
        Interrupted: somebody asks to stop, be it while a slow clip is waited for.
    """
    request = request_of(config, backbone.preprocessing.fit)
    workers = config.workers or cores()
    return decode_pieces(clips, request, workers, config.deadline, partial(_heed, stop))


def _heed(stop: StopRequest | None) -> None:
    if stop is not None and stop.name:
        raise stopped(stop)


def stopped(stop: StopRequest) -> Interrupted:
    """What an extraction raises when it was asked to stop: the same command goes on."""
    return stop.error(f"stopped by {stop.name}; what was whole is kept: the same command goes on")


def extract_part(
    clips: Sequence[Clip],
    backbone: Backbone,
    config: ExtractConfig,
    killers: frozenset[str] = frozenset(),
    decoder: str = "",
) -> Shard:
    """The shard of ``clips``, as every engine makes it.

    Args:
        clips: those of one part of the plan, in its order.
        backbone: what encodes them.
        config: how.
        killers: ids of clips that end the process that handles them: failed, untried.
        decoder: its version, when it is not the one that the cache was begun with.
    """
    tried = decoded_frames([clip for clip in clips if clip.id not in killers], backbone, config)
    with contextlib.closing(tried), Pace("part", len(clips)) as progress:
        decoded = _but(killers, clips, tried)
        return clip_shard(clips, decoded, backbone, config, progress, decoder=decoder)


def _but(killers: frozenset[str], clips: Sequence[Clip], tried: Decoded) -> Decoded:
    """What was decoded of ``clips``, and for the killers among them that they have failed."""
    for clip in clips:
        if clip.id in killers:
            yield without_frames("failed", "the process that handled it died, whenever tried")
            continue
        for part in tried:
            yield part
            if isinstance(part, Ended):
                break


def clip_shard(
    clips: Sequence[Clip],
    decoded: Decoded,
    backbone: Backbone,
    config: ExtractConfig,
    progress: Pace,
    kept: Kept | None = None,
    decoder: str = "",
) -> Shard:
    """Features of one shard's clips; batches are filled across clips.

    Args:
        clips: all of the part's.
        decoded: frames of those that are not kept yet.
        backbone: what encodes them.
        config: how.
        progress: is told of each clip.
        kept: what is there of the shard; what is whole is added to it now and then, and when
            an error ends the work.
        decoder: its version, when it is not the one that the cache was begun with.
    """
    before = kept.frames if kept else 0
    encoder = _encoder(backbone, config, before)
    rows = kept.rows() if kept else _Rows()
    rows.decoders.add(decoder)
    begun = len(rows)
    try:
        while len(rows) < len(clips):
            with progress.waiting():
                part = next(decoded)
            if isinstance(part, Piece):
                with progress.encoding():
                    encoder.add(part.pixels, part.first)
            else:
                counted = encoder.ended, encoder.shared
                with progress.encoding():
                    _end(rows, encoder, part)
                clip = clips[len(rows) - 1]
                if kept:
                    kept.ended(clip)
                more = encoder.ended - counted[0], encoder.shared - counted[1]
                progress.ended(seconds_of(clip, part.times, config.fps), *more)
            if kept and kept.due:
                kept.keep(rows, clips, encoder)
    except C4CError:
        if kept:
            kept.keep(rows, clips, encoder)
        raise
    with progress.finishing():
        rows.features[begun:] = encoder.finish()
    return rows.shard(clips, encoder.width)


def _encoder(backbone: Backbone, config: ExtractConfig, before: int) -> Encoder:
    """What encodes a shard's frames, behind those of an earlier run."""
    # With a 3d patch a frame's feature is of its neighbours too.
    shares = config.frame_mode != "exact" and not has_patch3d(backbone.model.visual)
    kind = SharingEncoder if shares else Encoder
    return kind(backbone, config.batch or BATCH, config.features == "hidden", before)


def seconds_of(clip: Clip, times: npt.NDArray[np.float32], fps: float) -> float:
    """How long a clip is, by its span or else by the times of its frames."""
    if clip.end is not None:
        return clip.end - clip.start
    if not len(times):
        return 0.0
    return float(times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1 / fps))


def _end(rows: _Rows, encoder: Encoder, end: Ended) -> None:
    """A clip has ended; its features follow when its batch is encoded."""
    encoder.end(len(end.times))
    rows.times.append(end.times)
    rows.status.append(end.status)
    rows.messages.append(end.message)
