"""What a decoder process does. Its parent holds it by ``worker.py``, and does not believe it."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time

from c4c.extract.video.decode import decode_clip
from c4c.extract.video.handover import Memory, Sender
from c4c.extract.video.link import Begun, Link, Started, said
from c4c.extract.video.rules import Extracted, review

_LOOK = 1.0  # seconds between a process's looks at whether its parent is there


def serve(link: int, memory: int) -> None:
    """What a decoder process does: a clip in, frames out, until the link closes.

    Args:
        link: file handle of the connection to the parent, which sends a ``Request`` first.
        memory: file handle of the shared memory.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    threading.Thread(target=_leave_after, args=(os.getppid(),), daemon=True).start()
    os.nice(10)  # the backbone's threads wait for one another: it comes first on shared cores
    connection = Link(link)
    sender = Sender(connection, Memory(memory))
    with contextlib.suppress(EOFError, OSError):
        request = pickle.loads(connection.recv())
        connection.send(said(Started(time.monotonic())))
        while True:
            clip = sender.clip()
            connection.send(said(Begun(_size(clip.path))))
            if isinstance(clip, Extracted):
                sender.finish(review(clip, request))
            else:
                sender.finish(decode_clip(clip, request, sender))


def _size(path: str) -> int:
    """Bytes of a file; asked here and not by the parent, which a dead network would hold up."""
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def _leave_after(parent: int) -> None:
    """End this process when its parent has, even while a codec hangs in it.

    The kernel's own signal for this is sent when the thread that started the process ends, be
    there others that still want it.
    """
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)
