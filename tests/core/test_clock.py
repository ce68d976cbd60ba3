"""A clock that stands still while its process does."""

import subprocess
import sys
import time

from c4c.core.clock import RunningClock

STOPS = """
import os, signal, subprocess, time
from c4c.core.clock import RunningClock
clock = RunningClock()
began, wall = clock.now(), time.monotonic()
for _ in range(2):
    subprocess.Popen(["sh", "-c", f"sleep 2; kill -CONT {os.getpid()}"])
    before = time.monotonic()
    os.kill(os.getpid(), signal.SIGSTOP)
    assert time.monotonic() - before > 1.5
told = time.monotonic()
time.sleep(0.5)
ran, gone = clock.now() - began, time.monotonic() - wall
print(ran, gone, clock.at(told) - began, clock.at(before) - began)
"""


def test_stops_of_the_process_do_not_count() -> None:
    done = subprocess.run([sys.executable, "-c", STOPS], capture_output=True, text=True, timeout=60)
    ran, wall, told, before = map(float, done.stdout.split())
    assert wall > 4
    assert ran < wall - 3.5
    assert told < ran
    assert before <= told  # a moment before the last stop, asked for after it


def test_a_process_that_runs_has_the_time_of_the_wall() -> None:
    clock = RunningClock()
    began, wall = clock.now(), time.monotonic()
    while time.monotonic() - wall < 2:  # busy, as while encoding
        sum(range(1000))
    assert abs((clock.now() - began) - (time.monotonic() - wall)) < 0.5
    clock.stop()


def test_many_stops_are_counted_after_the_first_are_forgotten() -> None:
    clock = RunningClock()
    clock.stop()
    now = time.monotonic()
    clock._seen = now + 300
    clock._gaps.extend((now + 2 * n, now + 2 * n + 1) for n in range(100))
    last = now + 250
    before = clock.at(last)
    assert before == last - 100
    for _ in range(50):
        assert clock.at(last) == before
    assert len(clock._gaps) < 100
