"""A pause of the whole machine is no clip's fault; a file that hangs is, whatever was paused."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

# A decoder that takes a clip when there is a file ``go``, and says when it has it in hand.
WAITS = """
import os, sys, time
from c4c.extract.video import worker_process
decode = worker_process.decode_clip
told = os.open(sys.argv[1] + "/begun", os.O_RDWR)  # before it may write nothing any more
def wait(*args):
    os.write(told, b"x")
    while not os.path.exists(sys.argv[1] + "/go"):
        time.sleep(0.05)
    return decode(*args)
worker_process.decode_clip = wait
exec(sys.argv[-1])
"""
PARENT = """
import multiprocessing, sys
from c4c.extract.video.request import Request
from c4c.extract.video.pool import decode_many
from c4c.core.records import Clip
multiprocessing.set_executable(sys.argv[1])
clips = [Clip(str(n), sys.argv[2]) for n in range(3)]
for _, done in decode_many(clips, Request(), deadline=float(sys.argv[3])):
    print(done.status, done.message, flush=True)
"""
DEADLINE, PAUSE = 4.0, 6.0


@pytest.fixture
def run(tmp_path: Path, films: Any) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a run of three clips, and returns when a decoder has the first in hand."""
    (tmp_path / "waits.py").write_text(WAITS)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -P {tmp_path}/waits.py {tmp_path} "$@"\n')
    python.chmod(0o755)
    video = films.make("clip.mp4")
    os.mkfifo(tmp_path / "begun")
    told = os.open(tmp_path / "begun", os.O_RDONLY | os.O_NONBLOCK)
    begun: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PARENT, str(python), str(video), str(DEADLINE)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        limit = time.monotonic() + 60
        while not select.select([told], [], [], 0.05)[0]:
            assert process.poll() is None
            assert time.monotonic() < limit
        return process

    yield start
    for process in begun:
        process.kill()
        process.communicate()
    os.close(told)


def pause(process: subprocess.Popen[str], seconds: float) -> None:
    """Stop a whole tree of processes, as a scheduler suspends a job, and let it go on."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in tree:
        one.suspend()
    time.sleep(seconds)
    for one in reversed(tree):
        one.resume()


@pytest.mark.slow
def test_clips_are_whole_after_a_pause_longer_than_their_deadline(run: Any, tmp_path: Path) -> None:
    process = run()
    pause(process, PAUSE)
    time.sleep(0.5)  # a run that counts the pause has killed the decoder by now
    pause(process, PAUSE)
    (tmp_path / "go").touch()
    said, _ = process.communicate(timeout=60)
    assert said.split() == ["ok"] * 3


@pytest.mark.slow
def test_a_clip_that_hangs_ends_in_spite_of_a_pause(run: Any, tmp_path: Path) -> None:
    process = run()
    pause(process, 2.0)
    resumed = time.monotonic()
    assert process.stdout is not None
    assert "deadline" in process.stdout.readline()
    assert DEADLINE - 3 < time.monotonic() - resumed < DEADLINE + 20


@pytest.mark.slow
def test_a_decoder_that_alone_is_stopped_is_late(run: Any, tmp_path: Path) -> None:
    process = run()
    (child,) = psutil.Process(process.pid).children()
    child.suspend()
    (tmp_path / "go").touch()
    said, _ = process.communicate(timeout=60)
    assert "deadline" in said
    assert said.splitlines()[1:] == ["ok ", "ok "]


def test_the_parent_never_asks_the_file_system_of_a_video(
    films: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that is dead, it would wait for ever, and no deadline would be looked at."""
    from c4c.core.records import Clip
    from c4c.extract.video.pool import decode_many
    from c4c.extract.video.request import Request

    video, asked = str(films.make("asked.mp4")), []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: asked.append(path) or stat(path, **more))
    assert [done.status for _, done in decode_many([Clip("x", video)], Request())] == ["ok"]
    assert video not in asked
