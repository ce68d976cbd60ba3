"""What a decoder process and its parent say to one another, a message at a time.

The parent is believed. The child is not: a video may have taken it over. Its messages are JSON,
of the forms below and no other.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time
from dataclasses import astuple, dataclass

from c4c.extract.video.opening import MAX_PIXELS

SLOT = 2 << 20  # bytes: a dozen frames of 224
SLOTS = 16
LARGE = SLOTS  # number of the one slot beyond, for frames that fill more than a slot
_FILE = 1 << 40  # bytes that a video may have: its deadline grows with them
REVIEWS = ("current", "outdated")  # ends of a clip that is only looked at (``rules.py``)
_MESSAGE = 1 << 18  # bytes, more than a socket takes at once


class Nonsense(Exception):
    """A child said what no decoder process says: it is not to be listened to any more."""


@dataclass(frozen=True, slots=True)
class Started:
    """The child is ready; from ``at`` on, its first clip's time counts."""

    at: float


@dataclass(frozen=True, slots=True)
class Begun:
    """The next clip is in hand; its file has ``size`` bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Given:
    """A slot holds ``shape[0]`` frames of the clip in hand, from number ``first`` on."""

    slot: int
    shape: tuple[int, ...]
    first: int


@dataclass(frozen=True, slots=True)
class Waits:
    """The child stands still since ``at`` until more slots come back than ``returned``."""

    at: float
    returned: int


@dataclass(frozen=True, slots=True)
class Done:
    """The clip in hand has ended; ``slot`` holds the times of the frames to keep, if any."""

    at: float
    status: str
    message: str
    kept: int
    slot: int
    resident: int  # bytes of memory that the process has now


Said = Started | Begun | Given | Waits | Done


class Link:
    """One end: messages that arrive whole.

    From a stream, a child could have its parent wait for the rest of a message for ever.

    Args:
        handle: of the socket, which is closed with this.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._poll = select.poll()
        self._poll.register(handle, select.POLLIN)

    @classmethod
    def pair(cls) -> tuple[Link, Link]:
        """Two ends that are connected."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one.detach()), cls(other.detach())

    def fileno(self) -> int:
        """The handle of the socket."""
        return self._handle

    def poll(self) -> bool:
        """Whether a message, or the end, is there to be received."""
        return bool(self._poll.poll(0))

    def send(self, message: bytes) -> None:
        """Send a message.

        Raises:
            OSError: nobody is there.
        """
        os.write(self._handle, message)

    def recv(self) -> bytes:
        """Wait for a message.

        Raises:
            EOFError, OSError: nobody is there any more.
        """
        message = os.read(self._handle, _MESSAGE)
        if not message:
            raise EOFError
        return message

    def close(self) -> None:
        """Close this end; once is enough."""
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1


def said(message: Said) -> bytes:
    """A child's message, as it is sent."""
    return json.dumps([type(message).__name__, *astuple(message)]).encode()


def understood(data: bytes) -> Said:
    """What a child said.

    Raises:
        Nonsense: it is none of the messages, or cannot be true.
    """
    try:
        match json.loads(data):
            case ["Started", float(at)] if _past(at):
                return Started(at)
            case ["Begun", int(size)] if 0 <= size <= _FILE:
                return Begun(size)
            case ["Given", int(slot), [int(n), int(h), int(w), 3], int(first)] if (
                first >= 0 and min(n, h, w) > 0 and n * h * w * 3 <= _room(slot)
            ):
                return Given(slot, (n, h, w, 3), first)
            case ["Waits", float(at), int(returned)] if _past(at):
                return Waits(at, returned)
            case ["Done", float(at), str(status), str(words), int(kept), int(slot), int(held)] if (
                _past(at) and _ends(status, kept) and 0 <= kept <= min(SLOT, _room(slot)) // 4
            ):
                return Done(at, status, words, kept, slot, held)
    except (ValueError, RecursionError):
        pass
    raise Nonsense(data[:100])


def _past(at: float) -> bool:
    """Whether a time has been: all processes have the same clock."""
    return 0 <= at <= time.monotonic()


def _room(slot: int) -> int:
    """Bytes that a slot holds."""
    return 3 * MAX_PIXELS if slot == LARGE else SLOT * (0 <= slot < SLOTS)


def _ends(status: str, kept: int) -> bool:
    """Whether a clip may end so, with ``kept`` frames."""
    return status in (("ok", "partial") if kept else ("corrupt", "failed", *REVIEWS))
