"""Frames on their way out of a decoder process: shared memory in slots, used over and over.

The child fills a slot, says so, and waits when none is free; the parent gives each back when it
has taken what is in it. So memory is bounded whatever a clip's length. The memory has no name:
nothing is left behind, and the size of ``/dev/shm`` does not matter.

A video may take over the child, so the parent believes nothing: what the child says is JSON of
a known form (``link.py``), and the memory cannot be made smaller under the parent's hands.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
import time
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.records import Clip
from c4c.extract.video.decode import Decoded
from c4c.extract.video.link import LARGE, SLOT, SLOTS, Done, Given, Link, Said, Waits, said
from c4c.extract.video.opening import MAX_PIXELS
from c4c.extract.video.picture import Taken, resized

_BYTES = SLOTS * SLOT + 3 * MAX_PIXELS  # what is never written to takes no memory
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Memory:
    """The shared memory between one decoder process and its parent."""

    def __init__(self, handle: int | None = None) -> None:
        if handle is None:
            handle = os.memfd_create("c4c-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(handle, _BYTES)
            # To read where a file has been cut off kills the reader.
            fcntl.fcntl(handle, fcntl.F_ADD_SEALS, _SEALS)
        self.handle = handle
        self._map = mmap.mmap(handle, _BYTES)

    def pixels(self, slot: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """What a slot holds, as uint8 of that shape; a view."""
        return np.ndarray(shape, np.uint8, self._map, slot * SLOT)

    def times(self, slot: int, count: int) -> npt.NDArray[np.float32]:
        """What a slot holds, as float32 [count]; a view."""
        return np.ndarray((count,), np.float32, self._map, slot * SLOT)

    def close(self) -> None:
        """Give up the file; views that are still held keep the memory."""
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1


class Sender(Taken):
    """The child's side: takes the pictures of a clip into slots and sends them on."""

    def __init__(self, link: Link, memory: Memory) -> None:
        self._link, self._memory = link, memory
        self._free = set(range(SLOTS + 1))
        self._returned = 0
        self._clips: deque[Clip] = deque()
        self._begin()

    def _begin(self) -> None:
        self._shape: tuple[int, ...] | None = None
        self._count = 0  # pictures taken
        self._sent = 0
        self._slot = -1

    def clip(self) -> Clip:
        """The next clip to decode.

        Raises:
            EOFError: the parent is gone.
        """
        while not self._clips:
            self._hear()
        self._begin()
        return self._clips.popleft()

    def __len__(self) -> int:
        return self._count

    def append(self, picture: npt.NDArray[np.uint8]) -> None:
        """Put a picture into shared memory, and that on its way when it is full."""
        if self._shape is None:
            self._shape = picture.shape
        if picture.shape != self._shape:
            picture = resized(picture, self._shape)
        most = max(1, SLOT // picture.nbytes)
        if self._slot < 0:
            self._slot = self._take_slot(picture.nbytes > SLOT)
        held = self._count - self._sent
        self._memory.pixels(self._slot, (most, *self._shape))[held] = picture
        self._count += 1
        if held + 1 == most:
            self._send()

    def clear(self) -> None:
        """What was sent is void: the next that is given is number 0 again."""
        if self._slot >= 0:
            self._free.add(self._slot)
        self._begin()

    def pixels(self) -> npt.NDArray[np.uint8]:
        """As many frames as were taken, without what was in them: that is on its way."""
        assert self._shape is not None
        nothing: npt.NDArray[np.uint8] = np.broadcast_to(np.uint8(0), (self._count, *self._shape))
        return nothing

    def finish(self, done: Decoded) -> None:
        """Send what is left of the clip, and how it ended."""
        kept, slot = len(done.frames), -1
        if not kept:
            self.clear()
        else:
            if self._slot >= 0:
                self._send()
            slot = self._take_slot(False)
            self._memory.times(slot, kept)[:] = done.frames.times
        self._tell(Done(time.monotonic(), done.status, done.message, kept, slot, _resident()))

    def _send(self) -> None:
        assert self._shape is not None
        shape = (self._count - self._sent, *self._shape)
        self._tell(Given(self._slot, shape, self._sent))
        self._slot, self._sent = -1, self._count

    def _take_slot(self, large: bool) -> int:
        while not (free := [one for one in self._free if (one == LARGE) == large]):
            if not self._link.poll():
                self._tell(Waits(time.monotonic(), self._returned))
            self._hear()
        self._free.remove(free[0])
        return free[0]

    def _hear(self) -> None:
        """Take one message: a clip to decode, or a slot that has come back."""
        message: Any = pickle.loads(self._link.recv())  # the parent's word is good
        if isinstance(message, Clip):
            self._clips.append(message)
        else:
            self._free.add(message)
            self._returned += 1

    def _tell(self, message: Said) -> None:
        self._link.send(said(message))


def _resident() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE
