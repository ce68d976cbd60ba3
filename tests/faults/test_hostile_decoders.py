"""Decoder processes that a video has taken over: nothing they do or say harms anybody else."""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from c4c.core.records import Clip
from c4c.extract.video import link as link_module
from c4c.extract.video.decode import Decoded, decode_clip
from c4c.extract.video.link import Done, Given, Nonsense, Started, Waits, said, understood
from c4c.extract.video.pool import decode_many, decode_pieces
from c4c.extract.video.request import Request

Run = Callable[[str], None]

# A process in a decoder's place; the first alone: what comes after it is a decoder.
HOSTILE = """
import os, pickle, re, sys, time
from c4c.extract.video.handover import Memory
from c4c.extract.video.link import Done, Given, Link, Started, Waits, said
import numpy as np
handles = [int(one) for one in re.search("serve.(\\\\d+), (\\\\d+)", sys.argv[-1]).groups()]
link, memory = Link(handles[0]), Memory(handles[1])
def say(what):
    link.send(what if isinstance(what, bytes) else said(what))
class Evil:
    def __reduce__(self):
        return os.mkdir, (sys.argv[1] + "/unpickled",)
now = time.monotonic
one = Given(0, (1, 48, 64, 3), 0)
link.recv(), link.recv()
"""
TRICKS = {
    "pickle": "say(pickle.dumps(Evil()))",
    "no text": "say(bytes([255] * 100))",
    "depth": "say(b'[' * 100_000)",
    "another kind": "say(b'[\"Exit\", 1.0]')",
    "a number without end": "say(b'[\"Given\", ' + b'9' * 5000 + b', [1, 1, 1, 3], 0]')",
    "a slot that is none": "say(Given(17, (1, 48, 64, 3), 0))",
    "more than a slot holds": "say(Given(0, (100, 480, 640, 3), 0))",
    "a shape that is none": "say(Given(0, (-1, -48, 64, 3), 0))",
    "a slot twice": "[say(Given(0, (1, 48, 64, 3), n)) for n in range(200)]",
    "frames that do not follow": "say(one), say(Given(1, (1, 48, 64, 3), 5))",
    "the future": "say(Done(now() + 1e6, 'failed', '', 0, -1, 0))",
    "no time": "say(b'[\"Waits\", NaN, 0]')",
    "more than was given": "say(one), say(Done(now(), 'ok', '', 9, 1, 0))",
    "success without frames": "say(Done(now(), 'ok', '', 0, -1, 0))",
    "a review that nobody asked for": "say(Done(now(), 'outdated', 'x', 0, -1, 0))",
    "times that are none": (
        "say(one); memory.times(1, 1)[:] = np.nan; say(Done(now(), 'ok', '', 1, 1, 0))"
    ),
    "times that go back": (
        "say(Given(0, (2, 48, 64, 3), 0)); memory.times(1, 2)[:] = [2, 1]\n"
        "say(Done(now(), 'ok', '', 2, 1, 0))"
    ),
    "waiting again and again": "[say(Waits(0.0, 0)) for _ in range(100)]",
    "starting again and again": "[say(Started(now())) for _ in range(100)]",
    "memory that is cut off": (
        "say(one)\n"
        "try: os.ftruncate(handles[1], 0)\n"
        "except PermissionError: say(b'no')"
    ),
}  # fmt: skip


@pytest.mark.parametrize("trick", list(TRICKS))
def test_a_process_that_lies_is_ended_and_its_clip_has_failed(
    trick: str, tmp_path: Path, whole: Clip, executable: Run, ends: None
) -> None:
    start = "" if trick == "starting again and again" else "say(Started(now()))\n"
    (tmp_path / "hostile.py").write_text(f"{HOSTILE}{start}{TRICKS[trick]}\ntime.sleep(600)\n")
    executable(
        f"mkdir {tmp_path}/first 2>/dev/null || exec {sys.executable} \"$@\"\n"
        f'exec {sys.executable} -P {tmp_path}/hostile.py {tmp_path} "$@"'
    )  # fmt: skip
    clips = [whole, Clip("second", whole.path)]
    before = time.monotonic()
    (_, one), (_, two) = decode_many(clips, Request(), deadline=60)
    assert time.monotonic() - before < 50  # not for its deadline
    assert (one.status, "said what none says" in one.message) == ("failed", True)
    assert two.status == "ok"
    assert not (tmp_path / "unpickled").exists()


def test_frames_without_end_are_refused(
    tmp_path: Path, whole: Clip, executable: Run, ends: None, monkeypatch: Any
) -> None:
    monkeypatch.setattr("c4c.extract.video.worker.MOST_FRAMES", 100)
    endless = "say(Started(now()))\nsay(one)\nwhile True: link.recv(), say(one)"
    (tmp_path / "hostile.py").write_text(HOSTILE + endless)
    executable(f'exec {sys.executable} -P {tmp_path}/hostile.py {tmp_path} "$@"')
    parts = list(decode_pieces([whole], Request(), deadline=100))
    assert len(parts) == 301
    assert "said what none says" in parts[-1].message


def test_more_ends_than_clips_end_clips_that_it_was_given_and_each_once(
    tmp_path: Path, whole: Clip, executable: Run, ends: None
) -> None:
    again = "say(Started(now()))\n[say(Done(now(), 'failed', '', 0, -1, 0)) for _ in range(99)]\n"
    (tmp_path / "hostile.py").write_text(HOSTILE + again + "time.sleep(600)\n")
    executable(
        f'mkdir {tmp_path}/first 2>/dev/null || exec {sys.executable} "$@"\n'
        f'exec {sys.executable} -P {tmp_path}/hostile.py {tmp_path} "$@"'
    )
    found = [done.status for _, done in decode_many([whole] * 12, Request(), deadline=60)]
    # How many it is given before it is found out depends on who is quicker.
    assert len(found) == 12 and found[0] == "failed" and set(found) <= {"failed", "ok"}


def test_a_message_of_which_only_a_part_comes_is_not_waited_for(
    tmp_path: Path, whole: Clip, executable: Run, ends: None
) -> None:
    """Four bytes that promise a kilobyte: a stream's reader would wait for it."""
    (tmp_path / "hostile.py").write_text(HOSTILE + "say(bytes([0, 0, 4, 0]))\ntime.sleep(600)")
    executable(f'exec {sys.executable} -P {tmp_path}/hostile.py {tmp_path} "$@"')
    with pytest.raises(Exception, match="said what none says"):
        list(decode_many([whole], Request(), deadline=60))


def test_what_decoders_say_is_understood() -> None:
    now = time.monotonic()
    for message in (
        Started(now),
        Given(3, (2, 64, 48, 3), 7),
        Given(link_module.LARGE, (1, 8192, 8192, 3), 0),
        Waits(now, 5),
        Done(now, "partial", "ends early: ☃", 3, 15, 1 << 30),
        Done(now, "failed", "", 0, -1, 0),
    ):
        assert understood(said(message)) == message


@pytest.mark.parametrize("seed", range(20))
def test_messages_with_changed_bytes_are_nonsense_or_another_message(seed: int) -> None:
    draw = np.random.default_rng(seed)
    data = said(Done(1.5, "ok", "x", 3, 2, 1000))
    for _ in range(500):
        changed = bytearray(data)
        for place in draw.integers(0, len(data), draw.integers(1, 4)):
            changed[place] = draw.integers(0, 256)
        try:
            found = understood(bytes(changed))
        except Nonsense:
            continue
        assert isinstance(found, Done) and 0 <= found.kept <= link_module.SLOT // 4


# What follows is done by a real decoder, in the place of decoding a clip.
TAKEN_OVER = """
import os, socket, sys
from c4c.extract.video import worker_process
from c4c.extract.video.decode import failure
def attempts(clip, *_):
    found = {}
    for name, act in (
        ("file", lambda: open(os.path.dirname(clip.path) + "/made", "w")),
        ("network", lambda: socket.socket()),
        ("program", lambda: os.execv("/bin/true", ["true"])),
        ("process", os.fork),
    ):
        try: act()
        except OSError: continue
        found[name] = "done"
    return failure("failed", f"{found} {open(clip.path, 'rb').read(4)!r}")
worker_process.decode_clip = attempts
exec(sys.argv[-1])
"""


def confined(pid: int) -> bool:
    """Whether system calls are filtered in each thread of a process."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            found.append("Seccomp:\t2" in (thread / "status").read_text())
    return bool(found) and all(found)


def test_what_decodes_can_read_and_nothing_else(
    tmp_path: Path, whole: Clip, executable: Run, ends: None
) -> None:
    (tmp_path / "taken_over.py").write_text(TAKEN_OVER)
    executable(f'exec {sys.executable} -P {tmp_path}/taken_over.py "$@"')
    ((_, done),) = decode_many([whole], Request())
    assert done.message == "{} " + repr(Path(whole.path).read_bytes()[:4])
    assert not Path(whole.path).with_name("made").exists()


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_decoder_is_confined_while_it_decodes(
    decoder: str, whole: Clip, decoders: Callable[..., list[psutil.Process]], ends: None
) -> None:
    pytest.importorskip("av" if decoder == "pyav" else "decord")
    request = Request(decoder=decoder)
    ((_, found),) = decode_many([whole], request)
    here: Decoded = decode_clip(whole, request)
    assert found.status == here.status == "ok"
    assert np.array_equal(found.frames.pixels, here.frames.pixels)
    with contextlib.closing(decode_pieces([whole, whole], request)) as parts:
        next(parts)
        (process,) = decoders(os.getpid())
        assert confined(process.pid)
