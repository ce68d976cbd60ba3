"""A cache that commit 32ebc70 made: it opens, is evaluated, is extended, and is called unbound."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.torch import save_file

from c4c.cache.open import Cache
from c4c.cache.stored import read_shard
from c4c.cli.app import group
from c4c.core.errors import Damaged
from c4c.extract.backbone.load import load_backbone
from c4c.extract.video.decode import decoder_version

DATA = Path(__file__).parents[1] / "data" / "cache-32ebc70"
Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def init() -> dict[str, Any]:
    """What that commit stored beside the features; 3 MB, so it is made here."""
    held = load_backbone("tiny", None, "cpu").head_init()
    return {name: value.contiguous() for name, value in held.items()}


@pytest.fixture
def old(tmp_path: Path, init: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the cache and its videos, in the folder that it was made in."""
    here = Path(shutil.copytree(DATA, tmp_path / "here"))
    save_file(init, here / "cache" / "head-init.safetensors")
    about = here / "cache" / "cache.json"
    content = json.loads(about.read_text())
    content["fingerprint"]["decoder"] = decoder_version("pyav")  # of the PyAV that is here
    about.write_text(json.dumps(content))
    monkeypatch.chdir(here)
    return here / "cache"


@pytest.fixture
def run() -> Run:
    """A command of ``c4c``: exit status and words."""

    def call(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(group, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return call


def held(cache: Path) -> dict[str, bytes]:
    """Features by clip, read with h5py alone."""
    found = {}
    for path in sorted((cache / "shards/all/clips").glob("*.h5")):
        with h5py.File(path) as file:
            names = file["ids_bytes"][:].tobytes().decode()
            assert file.attrs["schema"] == 2 and len(file["status"]) == 1
            found[names] = file["features"][:].tobytes()
    return found


def test_it_opens_and_gives_what_its_files_hold(old: Path) -> None:
    clips = Cache.open(old).clips()
    assert clips.ids == ("green.mp4", "red.mp4")
    assert {name: clips.read(i)[0].tobytes() for i, name in enumerate(clips.ids)} == held(old)
    assert len(Cache.open(old).captions()) == 2


def test_its_shards_are_unbound_and_not_damaged(old: Path, run: Run) -> None:
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    status, words = run("cache", "verify", "--repair", "cache")
    assert status == 0
    assert "3 of 3 shards are unbound" in words
    assert before == {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}


def test_a_flip_in_it_is_damage_wherever_it_falls(old: Path, run: Run) -> None:
    path = sorted((old / "shards/all/clips").glob("*.h5"))[0]
    whole = path.read_bytes()
    for place in range(0, len(whole), 701):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        status, words = run("cache", "verify", "cache")
        assert (status, path.name in words) == (3, True), place


@pytest.mark.parametrize("name", ["offsets", "crc32", "status", "ids_bytes", "messages_offsets"])
def test_a_flip_in_its_tables_is_found_on_opening(old: Path, name: str) -> None:
    path = sorted((old / "shards/all/clips").glob("*.h5"))[0]
    with h5py.File(path) as file:
        place = file[name].id.get_offset()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=path.name):
        Cache.open(old).clips()


def test_it_is_evaluated(old: Path, run: Run) -> None:
    command = ("retrieve", "--evaluate", "--cache", "cache", "--split", "all", "--device", "cpu")
    status, words = run(*command, "--json", "figures.json")
    assert status == 0, words
    figures = json.loads(Path("figures.json").read_text())
    # The tiny backbone knows red from green, as it did when the features were made.
    assert [query["first"] for query in figures["queries"]["t2v"]] == ["red.mp4", "green.mp4"]
    assert figures["metrics"]["t2v"]["r1"] == figures["metrics"]["v2t"]["r1"] == 100.0


def film(path: Path, colour: tuple[int, int, int]) -> None:
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=4)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 4)
        for _ in range(8):
            picture = np.full((32, 32, 3), colour, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())


def test_it_is_extended_and_only_what_is_new_is_bound(old: Path, run: Run) -> None:
    before = {path: path.read_bytes() for path in old.rglob("*.h5")}
    features = held(old)
    film(old.parent / "videos" / "blue.mp4", (30, 30, 200))
    with (old.parent / "captions.csv").open("a") as stream:
        stream.write("blue.mp4,a blue square\n")
    status, words = run(
        "extract", "--dataset", "folder", "--root", "videos", "--captions", "captions.csv",
        "--cache", "cache", "--backbone", "tiny", "--workers", "1", "--device", "cpu",
    )  # fmt: skip
    assert status == 0, words
    assert before == {path: path.read_bytes() for path in before}
    cache = Cache.open(old)
    clips = cache.clips()
    assert clips.ids == ("blue.mp4", "green.mp4", "red.mp4")
    found = {name: clips.read(i)[0].tobytes() for i, name in enumerate(clips.ids)}
    assert {name: found[name] for name in features} == features
    assert len(cache.captions()) == 3
    fresh = set(old.rglob("*.h5")) - set(before)
    assert len(fresh) == 2
    assert all(read_shard(path, cache.owner).bound for path in fresh)
    status, words = run("cache", "verify", "cache")
    assert status == 0 and "3 of 5 shards are unbound" in words
    status, words = run("cache", "compact", "cache")
    assert status == 0, words
    assert [read_shard(path).bound for path in old.rglob("*.h5")].count(False) == 2
    clips = Cache.open(old).clips()
    assert {name: clips.read(i)[0].tobytes() for i, name in enumerate(clips.ids)} == found
