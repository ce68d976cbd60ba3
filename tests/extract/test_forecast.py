"""``c4c extract --dry-run`` says what an extraction would take, and extracts nothing."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.core.records import Fingerprint
from c4c.extract import pipeline, rates
from c4c.extract.config import ExtractConfig
from c4c.extract.rates import Rate, note_rate, noted_rate

MADE = Fingerprint("tiny", "shipped", "s", "p", "f", "d", "float32")


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def folder(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of 8 seconds."""
    folder = tmp_path_factory.mktemp("forecast")
    for number, path in enumerate(sorted((shapes_root / "videos").rglob("val-*.mp4"))[:3]):
        (folder / f"{number}.mp4").write_bytes(path.read_bytes())
    return folder


def run(folder: Path, cache: Path, *options: str) -> str:
    command = ["extract", str(folder), "--cache", str(cache), "--backbone", "tiny"]
    command += ["--workers", "1", "--device", "cpu", *options]
    done = CliRunner().invoke(group, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.shows("extract", "--dry-run")
def test_a_dry_run_tells_clips_time_and_disk_and_extracts_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    words = run(folder, cache, "--dry-run")
    assert not cache.exists()
    assert words.startswith("3 clips to extract, 24 s of video\n")
    assert re.search(r"time: about \d+ s, \d+\.\dx real time \(measured on the first clip\)", words)
    assert f"disk: 0.0 MB of features in {cache}" in words
    # A run notes how fast it was, and the next dry run says that.
    monkeypatch.setattr(pipeline, "_TELLING", 0.0)
    (folder / "extra.mp4").write_bytes((folder / "0.mp4").read_bytes() + b"\0")
    run(folder, cache, "--exclude", "extra.mp4")
    words = run(folder, cache, "--dry-run")
    assert words.startswith("1 clips to extract, 8 s of video\n")
    assert "(as in the last run like it)" in words


def test_a_rate_is_of_one_way_to_extract(tmp_path: Path) -> None:
    config = ExtractConfig(dataset="folder", backbone="tiny")
    note_rate(config, MADE, Rate(12.5, 512))
    assert noted_rate(config) == Rate(12.5, 512)
    assert noted_rate(ExtractConfig(dataset="x", backbone="tiny", precision="float32"))
    for other in ({"fps": 2.0}, {"frame_mode": "key"}, {"device": "cuda"}, {"max_frames": 3}):
        assert noted_rate(ExtractConfig(dataset="folder", backbone="tiny", **other)) is None


@pytest.mark.parametrize("text", ["", "[]", '{"speed": "x"}', '{"speed": -1, "width": 3}'])
def test_a_note_that_is_damaged_is_none(text: str) -> None:
    config = ExtractConfig(dataset="folder")
    note_rate(config, MADE, Rate(1.0, 2))
    path = rates._file(config, config.backend, config.precision)
    assert path is not None
    path.write_text(text)
    assert noted_rate(config) is None


def test_a_folder_without_a_decodable_video_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "x.mp4").write_bytes(b"no video" * 100)
    words = run(tmp_path / "videos", tmp_path / "cache", "--dry-run")
    assert "1 clips to extract, 0 s of video" in words
    assert "time: cannot be told" in words
