"""The commands that a user types, on a cache whose shards are another backbone's, or no shards."""

import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.backbone.load import load_backbone

VIDEOS = Path(__file__).parents[1] / "data" / "cache-32ebc70"


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and words; ``main`` makes a line and status 2 of our own errors."""
    done = CliRunner().invoke(group, arguments)
    if isinstance(done.exception, C4CError):
        return 2, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def extract(cache: Path, *options: str) -> tuple[int, str]:
    return run(
        "extract", "--dataset", "folder", "--root", str(VIDEOS / "videos"), "--captions",
        str(VIDEOS / "captions.csv"), "--cache", str(cache), "--backbone", "tiny", "--workers", "1",
        "--device", "cpu", "--shard-clips", "1", *options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two caches of the same videos: the shipped weights', and those of others."""
    here = tmp_path_factory.mktemp("foreign")
    backbone = load_backbone("tiny", None, "cpu")
    with torch.no_grad():
        backbone.model.visual.proj.mul_(-1)
    backbone.save(here / "other.safetensors")
    assert extract(here / "own")[0] == 0
    code, words = extract(here / "other", "--pretrained", str(here / "other.safetensors"))
    assert code == 0, words
    return here


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "own", tmp_path / "own"))


def shards(cache: Path) -> list[Path]:
    return sorted(path.relative_to(cache) for path in cache.rglob("*.h5"))


def test_features_of_another_backbone_are_named_by_every_command(made: Path, copy: Path) -> None:
    assert shards(made / "own") == shards(made / "other")
    for name in shards(copy):
        shutil.copy(made / "other" / name, copy / name)
    code, words = run("cache", "verify", "--repair", str(copy))
    assert code == 6
    assert all(str(copy / name) in words for name in shards(made / "own"))
    evaluation = ("retrieve", "--evaluate", "--split", "all", "--device", "cpu", "--cache")
    for command in (
        lambda: run(*evaluation, str(copy)),
        lambda: run("cache", "info", str(copy)),
        lambda: run("cache", "compact", str(copy)),
        lambda: run("cache", "export", str(copy), "--out", str(copy.parent / "out")),
        lambda: extract(copy),
    ):
        code, words = command()
        assert code == 2
        assert "belongs to another cache" in words and "\n" not in words.strip()


def test_a_lost_json_does_not_make_old_features_those_of_other_weights(
    made: Path, copy: Path
) -> None:
    (copy / "cache.json").unlink()
    code, words = extract(copy, "--pretrained", str(made / "other.safetensors"))
    assert code == 2
    assert "has no cache.json, and holds" in words
    code, words = extract(copy)
    assert code == 0, words
    assert run("cache", "verify", str(copy))[0] == 0


@pytest.mark.parametrize("kind", ["dangling link", "folder"])
def test_extraction_names_what_stands_in_a_shards_place(copy: Path, kind: str) -> None:
    path = copy / shards(copy)[0]
    path.unlink()
    path.mkdir() if kind == "folder" else path.symlink_to("gone.h5")
    code, words = extract(copy)
    assert code == 2
    assert str(path) in words and "remove it" in words


def test_a_run_that_goes_on_gives_the_bytes_of_one_that_was_not_disturbed(
    made: Path, copy: Path, tmp_path: Path
) -> None:
    """Also when the weights lie under another path: where something lies binds nothing."""
    for name in shards(copy)[::2]:
        (copy / name).unlink()
    assert extract(copy)[0] == 0
    shutil.copy(made / "other.safetensors", tmp_path / "moved.safetensors")
    extract(tmp_path / "moved", "--pretrained", str(tmp_path / "moved.safetensors"))
    for one, two in ((copy, made / "own"), (tmp_path / "moved", made / "other")):
        assert {name: (one / name).read_bytes() for name in shards(one)} == {
            name: (two / name).read_bytes() for name in shards(two)
        }
