"""Pictures of videos at a second: decoded in confined processes, kept as JPEG.

Those that wait together are decoded together, for a process takes longer to start than a frame
takes to decode.
"""

from __future__ import annotations

import os
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError
from c4c.core.records import Clip
from c4c.extract.video.decode import Decoded
from c4c.extract.video.pool import decode_many
from c4c.extract.video.request import Request
from c4c.serve.batching import Busy
from c4c.serve.store import Store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BATCH, _QUEUE = 32, 256
_STEP = 0.5  # seconds between pictures that are kept: what lies between is the same picture
_DEADLINE = 20.0  # seconds for one
_MOST_BYTES = 256 << 20
WIDTHS = (320, 640)


@dataclass(frozen=True, slots=True)
class _Waiting:
    key: tuple[str, int, int, float, int]
    picture: Future[Path]


class Thumbnails:
    """Gives pictures of videos, from the store or decoded.

    Args:
        workers: decoder processes at once.
    """

    def __init__(self, workers: int = 2) -> None:
        self._store = Store("thumbnails", _MOST_BYTES)
        self._workers = workers
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(_QUEUE)
        self._thread = threading.Thread(target=self._work, name="c4c-thumbnails", daemon=True)
        self._thread.start()

    def at(self, path: str, second: float, width: int) -> Future[Path]:
        """The file of a picture, to come; its error is a ``C4CError`` where there is none.

        Raises:
            Busy: too many wait.
            C4CError: the video does not exist.
        """
        picture: Future[Path] = Future()
        try:
            about = os.stat(path)
        except (OSError, ValueError):
            raise C4CError("The video file does not exist any more.") from None
        second = round(second / _STEP) * _STEP
        key = (path, about.st_mtime_ns, about.st_size, second, width)
        kept = self._store.get(path, key)
        if kept is not None:
            picture.set_result(kept)
            return picture
        try:
            self._waiting.put_nowait(_Waiting(key, picture))
        except queue.Full:
            raise Busy("Too many pictures wait; ask again in a moment.") from None
        return picture

    def close(self) -> None:
        """Decode what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch: dict[tuple[str, int, int, float, int], list[Future[Path]]] = {}
            one: _Waiting | None = first
            while one is not None:
                if one.picture.set_running_or_notify_cancel():
                    batch.setdefault(one.key, []).append(one.picture)
                if len(batch) >= _BATCH or self._waiting.empty():
                    break
                one = self._waiting.get()
            self._decode(batch)
            if one is None:
                return

    def _decode(self, batch: dict[tuple[str, int, int, float, int], list[Future[Path]]]) -> None:
        keys = list(batch)
        # A frame at that second; near the end of a video there may be none after it any more.
        clips = [
            Clip(str(number), key[0], max(0.0, key[3] - 0.001), key[3] + 1.0)
            for number, key in enumerate(keys)
        ]
        done = 0
        try:
            decoded = decode_many(clips, Request(fps=1.0, max_frames=1), self._workers, _DEADLINE)
            for place, one in decoded:
                self._keep(keys[place], one, batch[keys[place]])
                done = place + 1
        except Exception as error:
            for key in keys[done:]:
                for waiting in batch[key]:
                    waiting.set_exception(error)

    def _keep(
        self,
        key: tuple[str, int, int, float, int],
        decoded: Decoded,
        waiting: list[Future[Path]],
    ) -> None:
        try:
            if not len(decoded.frames):
                raise C4CError(f"No picture can be shown: {decoded.message or decoded.status}.")
            pixels = decoded.frames.pixels[0]
            write = partial(write_jpeg, pixels, key[4])
            path = self._store.put(key[0], key, write)
        except (C4CError, OSError) as error:
            for one in waiting:
                one.set_exception(error)
            return
        for one in waiting:
            one.set_result(path)


def write_jpeg(pixels: npt.NDArray[np.uint8], width: int, target: Path) -> None:
    """A picture, uint8 [H, W, 3], as a JPEG not wider than ``width`` and not higher than that."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((width, width))
    picture.save(target, "JPEG", quality=80)
