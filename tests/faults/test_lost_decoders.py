"""Slots, processes, memory and files of decoders: none is lost, whatever ends their use."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from c4c.core.limits import MOST_FRAMES
from c4c.core.records import Clip, Frames
from c4c.extract.video import picture, worker
from c4c.extract.video.decode import Decoded, decode_clip, failure
from c4c.extract.video.handover import Memory, Sender
from c4c.extract.video.link import SLOT, SLOTS, Given, Link, understood
from c4c.extract.video.opening import open_video
from c4c.extract.video.pool import Ended, decode_many, decode_pieces
from c4c.extract.video.request import Request
from c4c.extract.video.span import wanted_times

Decoders = Callable[..., list[psutil.Process]]


def test_clips_that_fail_after_some_frames_take_no_slot_with_them(films: Any, ends: None) -> None:
    """Decord gives what PyAV does until the picture changes: ten frames, then a failure."""
    pytest.importorskip("decord")

    def draw(second: float) -> Any:
        number = round(second * 8)
        level = 30 if number < 10 else 60 + 120 * (number % 2)
        return np.full((48, 64, 3), level, np.uint8)

    path = films.make("other.mpg", "mpeg2video", rate=25, draw=draw)
    request, taken = Request(fps=8, decoder="decord"), picture.Taken()
    alone = decode_clip(Clip("x", str(path)), request, taken)
    assert (alone.status, len(taken)) == ("failed", 10)
    clips = [Clip(str(number), str(path)) for number in range(SLOTS + 8)]
    found = [done for _, done in decode_many(clips, request)]
    assert [(done.status, done.message) for done in found] == [("failed", alone.message)] * 24


def done_with(sender: Sender, count: int) -> Decoded:
    if not count:
        return failure("failed", "")
    return Decoded(Frames(sender.pixels(), np.zeros(count, np.float32)))


@pytest.mark.parametrize("pixels", [SLOT // 12, SLOT])
@pytest.mark.parametrize("kept", [False, True])
def test_every_slot_is_free_after_a_clip_once_what_was_sent_is_back(
    pixels: int, kept: bool
) -> None:
    ours, theirs = Link.pair()
    sender = Sender(theirs, Memory())
    for number in range(SLOTS + 2):
        ours.send(pickle.dumps(Clip(str(number), "x")))
        sender.clip()
        sender.append(np.zeros((1, pixels, 3), np.uint8))
        sender.finish(done_with(sender, int(kept)))
        while ours.poll():
            message = understood(ours.recv())
            if isinstance(message, Given) or message.kept:
                ours.send(pickle.dumps(message.slot))
        while theirs.poll():
            sender._hear()
        assert sender._free == set(range(SLOTS + 1))


WAITS = """
import re, sys, time
from c4c.extract.video.link import Link, Started, Waits, said
link = Link(int(re.search("serve.(\\\\d+)", sys.argv[-1])[1]))
link.recv()
link.send(said(Started(time.monotonic())))
while link.recv():
    link.send(said(Waits(time.monotonic(), 0)))
"""


def test_a_process_that_waits_for_slots_which_nobody_has_is_late(
    tmp_path: Path, whole: Clip, executable: Callable[[str], None], ends: None
) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    executable(f'exec {sys.executable} -P {tmp_path}/waits.py "$@"')
    ((_, done),) = decode_many([whole], Request(), deadline=0.5)
    assert (done.status, "deadline" in done.message) == ("failed", True)


def test_more_frames_than_a_slot_has_room_for_times_are_refused(
    whole: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SLOT >= 4 * MOST_FRAMES
    with open_video(whole.path) as video:
        assert len(wanted_times(video, whole, 1e6, MOST_FRAMES, "uniform").times) == MOST_FRAMES
    refused = decode_clip(whole, Request(fps=1e6, max_frames=MOST_FRAMES + 1))
    assert refused.status == "failed"
    assert "3000000 frames" not in refused.message
    assert "pass --max-frames 100000 or fewer" in refused.message


HANGS = """
import ctypes, os, sys
from c4c.extract.video import worker_process
told = os.open(sys.argv[1], os.O_WRONLY)  # of a pipe
def hang(*_):
    os.close(told)
    ctypes.CDLL(None).read(os.pipe()[0], ctypes.create_string_buffer(1), 1)  # for ever, in C
worker_process.decode_clip = hang
exec(sys.argv[-1])
"""
PARENT = """
import multiprocessing, sys
from c4c.extract.video.request import Request
from c4c.extract.video.pool import decode_many
from c4c.core.records import Clip
multiprocessing.set_executable(sys.argv[1])
list(decode_many([Clip("x", sys.argv[2])], Request()))
"""


def test_a_decoder_that_hangs_in_a_codec_does_not_outlive_its_killed_parent(
    tmp_path: Path, whole: Clip, executable: Callable[[str], None], ends: None
) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    os.mkfifo(tmp_path / "told")
    executable(f'exec {sys.executable} -P {tmp_path}/hangs.py {tmp_path}/told "$@"')
    command = [sys.executable, "-c", PARENT, spawn.get_executable(), whole.path]
    with subprocess.Popen(command) as parent:
        assert (tmp_path / "told").read_bytes() == b""  # it hangs
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    assert psutil.wait_procs([child], timeout=60)[1] == []


def imports(process: psutil.Process) -> bool:
    """Whether it has begun to import what decoders need."""
    return "numpy" in Path(f"/proc/{process.pid}/maps").read_text()


def test_ctrl_c_while_a_decoder_starts_shows_no_traceback(
    films: Any, whole: Clip, tmp_path: Path, decoders: Decoders
) -> None:
    """The terminal sends it to all that are in the group."""
    command = [sys.executable, "-m", "c4c", "extract", "--dataset", "folder", "--workers", "1"]
    command += ["--root", str(films.root), "--cache", str(tmp_path / "c"), "--backbone", "tiny"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        found: list[psutil.Process] = []
        while not any(imports(one) for one in found):
            assert process.poll() is None
            found = decoders(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, words = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in words, words
    assert psutil.wait_procs(found, timeout=60)[1] == []


def test_frames_memory_goes_with_the_processes(whole: Clip) -> None:
    for _ in range(3):
        assert [done.status for _, done in decode_many([whole], Request())] == ["ok"]
        assert Path("/proc/self/maps").read_text().count("c4c-frames") == 0


def test_no_file_stays_open_when_a_process_cannot_be_started(
    whole: Clip, executable: Callable[[str], None]
) -> None:
    multiprocessing.set_executable("/nowhere/python")
    before = os.listdir("/proc/self/fd")
    with contextlib.suppress(FileNotFoundError):
        list(decode_many([whole], Request()))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_worn_process_is_not_replaced_when_nothing_is_left(
    tmp_path: Path, whole: Clip, executable: Callable[[str], None], monkeypatch: Any
) -> None:
    monkeypatch.setattr(worker, "_BLOATED", 1)
    executable(f'echo $$ >> {tmp_path}/pids; exec {sys.executable} "$@"')
    with contextlib.closing(decode_pieces([whole], Request())) as parts:
        while not isinstance(next(parts), Ended):
            pass
        assert psutil.pid_exists(int((tmp_path / "pids").read_text().split()[0]))
