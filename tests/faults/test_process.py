"""What surrounds a run: it ends in one line and goes on later, or nothing comes of it."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import warm

PAGE = 4096
CLOCK = """
import os, time
now = float(os.environ["CLOCK"])
time.time, time.time_ns = (lambda: now), (lambda: int(now * 1e9))
"""


def mounts() -> bool:
    """Whether a process may have file systems of its own here."""
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(command, capture_output=True).returncode
    )


@pytest.fixture(scope="module")
def videos(films: Any) -> Path:
    for number in range(6):
        films.make(f"{number}.mp4")
    return Path(films.root)


def command(videos: Path, cache: Path) -> list[str]:
    found = [sys.executable, "-m", "c4c", "extract", "--dataset", "folder", "--root", str(videos)]
    found += ["--cache", str(cache), "--backbone", "tiny", "--workers", "1", "--shard-clips", "2"]
    return found


def content(cache: Path) -> dict[str, bytes]:
    """Every file by its place in the cache."""
    paths = [path for path in cache.rglob("*") if path.is_file()]
    return {str(path.relative_to(cache)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def plain(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The cache of a run that nothing disturbs."""
    cache = tmp_path_factory.mktemp("plain") / "cache"
    warm.run(command(videos, cache), check=True)
    return content(cache)


def one_line(words: str, *parts: str) -> None:
    """The last line is the error, and there is no traceback."""
    assert "Traceback" not in words
    last = words.strip().splitlines()[-1]
    assert last.startswith("c4c: ")
    assert all(part in last for part in parts), last


@pytest.mark.parametrize("clock", [0, 4_102_444_800], ids=["1970", "2100"])
def test_surroundings_change_nothing(
    clock: int, videos: Path, plain: dict[str, bytes], tmp_path: Path
) -> None:
    """No terminal, no HOME, plain C, nobody to read stdout, few files, hardly any /dev/shm."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    surroundings = {**kept, "LANG": "C", "CLOCK": str(clock), "PYTHONPATH": str(tmp_path)}
    run = ["sh", "-c", 'ulimit -n 64; exec "$@" >&-', "sh", *command(videos, tmp_path / "cache")]
    if mounts():
        small = 'mount -t tmpfs -o size=16k tmpfs /dev/shm; exec "$@"'
        run = ["unshare", "-m", "sh", "-c", small, "sh", *run]
    done = subprocess.run(run, env=surroundings, stdin=subprocess.DEVNULL, timeout=240,
                          start_new_session=True, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert content(tmp_path / "cache") == plain


@pytest.mark.slow
@pytest.mark.skipif(not mounts(), reason="file systems cannot be mounted here")
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    videos: Path, plain: dict[str, bytes], tmp_path: Path
) -> None:
    """Room for all but the last shards; then none may be written; then there is room."""
    shards = [len(data) for name, data in plain.items() if name.endswith(".h5")]
    others = [len(data) for name, data in plain.items() if not name.endswith(".h5")]
    pages = sum(-(-size // PAGE) for size in [*others, max(shards)]) + 2
    cache = tmp_path / "cache"
    cache.mkdir()
    script = f"""
mount -t tmpfs -o size={pages * PAGE} tmpfs {cache}
"$@" 2>{tmp_path}/full; echo $?
find {cache} -name '*.h5' | wc -l
mount -o remount,ro {cache}
"$@" 2>{tmp_path}/fixed; echo $?
mount -o remount,rw,size=64m {cache}
"$@" 2>{tmp_path}/later; echo $?
cp -r {cache} {tmp_path}/copy
"""
    run = ["unshare", "-m", "sh", "-c", script, "sh", *command(videos, cache)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=400)
    full, shards_there, fixed, later = map(int, done.stdout.split())
    assert (full, fixed, later) == (2, 2, 0)
    assert 0 < shards_there < len(shards)
    one_line((tmp_path / "full").read_text(), "No space left on device", str(cache))
    one_line((tmp_path / "fixed").read_text(), "Read-only file system", str(cache))
    assert content(tmp_path / "copy") == plain


def limited(files: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def test_too_many_open_files_is_one_line(videos: Path, tmp_path: Path) -> None:
    done = subprocess.run(command(videos, tmp_path / "cache"), preexec_fn=limited(8),
                          capture_output=True, text=True, timeout=240)  # fmt: skip
    assert done.returncode == 2
    one_line(done.stderr, "Too many open files")


@pytest.mark.slow
def test_two_runs_at_once_make_one_cache(
    videos: Path, plain: dict[str, bytes], tmp_path: Path
) -> None:
    both = [warm.Started(command(videos, tmp_path / "cache")) for _ in range(2)]
    for process in both:
        _, words = process.communicate(timeout=240)
        assert process.returncode == 0, words
    assert content(tmp_path / "cache") == plain


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_run_whose_decoder_stands_still_ends_when_asked_and_leaves_no_process(
    times: int,
    number: signal.Signals,
    status: int,
    videos: Path,
    tmp_path: Path,
    decoders: Callable[..., list[psutil.Process]],
) -> None:
    process = warm.Started(command(videos, tmp_path / "cache"))
    while not (children := decoders(process.pid)) and process.poll() is None:
        time.sleep(0.01)
    assert children
    for child in children:
        child.suspend()
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.05)
    _, words = process.communicate(timeout=60)
    assert process.returncode in ((status,) if times == 1 else (status, 130, -number))
    assert "Traceback" not in words
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.resume()
    assert psutil.wait_procs(children, timeout=60)[1] == []
