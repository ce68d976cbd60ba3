"""A search opens the weights that the user named, and no file that only a cache names."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.backbone import trusted
from c4c.extract.backbone.load import load_backbone
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes

YEAR = 365 * 24 * 3600
SEARCH = ("retrieve", "a red circle", "--cache")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, weights of the user's own in two files, and a cache made with the first."""
    here = tmp_path_factory.mktemp("trusted")
    make_shapes(here / "shapes", Recipe(seed=4, train=2, val=0, test=0))
    for name, added in (("w.safetensors", 0.1), ("other.safetensors", 0.2)):
        backbone = load_backbone("tiny", "none")
        with torch.no_grad():
            backbone.model.positional_embedding += added
        backbone.save(here / name)
        os.utime(here / name, (YEAR, YEAR))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(here / "state"))
        patch.chdir(here)
        assert extract("w.safetensors", "cache") is None
    return here


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it all, with a memory of its own: of the first weights, at their place here."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    # The files are young for a test, and would be hashed each time.
    monkeypatch.setattr(trusted, "_SETTLED", 0)
    record = next((tmp_path / "state").rglob("*.json"))
    record.unlink()
    assert extract("w.safetensors", "cache") is None
    return tmp_path


def outcome(*command: str) -> str | None:
    """The line with which a command refuses; ``None``: it did its work."""
    result = CliRunner().invoke(group, command)
    if isinstance(result.exception, C4CError):
        assert "\n" not in str(result.exception)
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return None


def extract(weights: str, cache: str) -> str | None:
    command = ("extract", "--dataset", "folder", "--root", "shapes/videos", "--cache", cache)
    return outcome(*command, "--backbone", "tiny", "--workers", "1", "--pretrained", weights)


def search(cache: str = "cache", *options: str) -> str | None:
    return outcome(*SEARCH, cache, *options)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose hash is computed."""
    names: list[str] = []

    def digest(stream: object, kind: str) -> object:
        name = Path(stream.name).name  # type: ignore[attr-defined]
        if not name.startswith("piece-"):  # of the gallery
            names.append(name)
        return real(stream, kind)  # type: ignore[arg-type]

    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", digest)
    return names


def test_a_plain_search_of_ones_own_cache_works_from_anywhere(
    here: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search() is None
    shutil.move("cache", "moved")
    (here / "deeper").mkdir()
    monkeypatch.chdir(here / "deeper")
    assert search("../moved") is None
    assert hashed == []  # the stamp says that it is the file that was hashed


def test_a_foreign_cache_is_searched_once_its_weights_are_named(here: Path) -> None:
    shutil.rmtree("state")
    line = search()
    assert line is not None
    assert "w.safetensors, which was not opened" in line
    assert line.endswith("pass --pretrained w.safetensors once.")
    assert search("cache", "--pretrained", "w.safetensors") is None
    assert search() is None
    assert not list(Path("cache").rglob("*weights*"))  # what is remembered is not in the cache


def test_other_weights_than_the_caches_are_neither_used_nor_remembered(here: Path) -> None:
    shutil.rmtree("state")
    line = search("cache", "--pretrained", "other.safetensors")
    assert line is not None
    assert "made with other weights" in line
    assert not Path("state").exists()


def swap(keep_times: bool) -> None:
    """Put other weights of the same length in the place of those that were named."""
    before = os.stat("w.safetensors")
    data = Path("other.safetensors").read_bytes()
    with open("w.safetensors", "r+b") as stream:  # the inode stays
        stream.write(data)
    assert os.stat("w.safetensors").st_size == before.st_size
    if keep_times:
        os.utime("w.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("keep_times", [False, True])
def test_a_file_that_was_changed_is_noticed_before_it_is_loaded(
    keep_times: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap(keep_times)
    monkeypatch.setattr("c4c.extract.backbone.load.build_model", never)
    line = search()
    assert line is not None
    assert "w.safetensors has changed since" in line


def never(*_: object) -> object:
    raise AssertionError("a model was built")


def test_a_file_that_was_written_again_or_moved_back_is_the_same(
    here: Path, hashed: list[str]
) -> None:
    shutil.copy("w.safetensors", "copy")
    os.replace("copy", "w.safetensors")
    assert search() is None
    assert hashed == ["w.safetensors"]
    assert search() is None
    assert hashed == ["w.safetensors"]  # the new stamp is remembered


def test_a_young_file_is_hashed_until_its_stamp_proves_something(
    here: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write in the same tick of the clock would leave the same stamp."""
    monkeypatch.setattr(trusted, "_SETTLED", 10**18)
    shutil.rmtree("state")
    for _ in range(2):
        assert search("cache", "--pretrained", "w.safetensors") is None
    assert search() is None
    assert hashed == ["w.safetensors"] * 3


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: path.unlink(), "cannot be read .No such file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "cannot be read .not a regular file"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read .not a regular file"),
    ],
)
def test_a_file_that_is_gone_is_named(
    harm: Callable[[Path], object], words: str, here: Path
) -> None:
    harm(here / "w.safetensors")
    line = search()
    assert line is not None
    assert str(here / "w.safetensors") in line
    assert words.split(" .")[0] in line
    assert words.split(" .")[1] in line


def test_a_checkpoint_folder_is_remembered_by_its_file(here: Path) -> None:
    (here / "best").mkdir()
    shutil.copy("w.safetensors", "best/backbone.safetensors")
    shutil.rmtree("state")
    assert search("cache", "--pretrained", "best") is None
    assert search() is None
    shutil.copy("other.safetensors", "best/backbone.safetensors")
    assert "best/backbone.safetensors has changed" in str(search())


def test_tags_and_shipped_weights_need_no_memory(here: Path) -> None:
    for weights in ("none", "shipped"):
        torch.manual_seed(1)  # random weights are always the same
        assert extract(weights, weights) is None
    shutil.rmtree("state")
    for weights in ("none", "shipped"):
        (here / weights).rename(f"c-{weights}")
        Path(weights).write_text("a file of this name is not meant")
        torch.manual_seed(2)
        assert search(f"c-{weights}") is None
    assert not Path("state").exists()


def test_a_tag_is_a_tag_whatever_files_lie_around(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("openai").write_bytes(b"no weights")
    asked: list[str] = []
    monkeypatch.setattr(
        "c4c.extract.backbone.build._from_tag",
        lambda name, tag, local: (asked.append(tag), Path("w.pt")),
    )
    monkeypatch.setattr("c4c.extract.backbone.build._preprocessing", lambda *_: (None, ""))
    from c4c.extract.backbone.build import build_model

    build_model("ViT-B-32", "openai")
    assert asked == ["openai"]
    with pytest.raises(C4CError, match="openai is .*not a file of weights"):
        build_model("ViT-B-32", "./openai")


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "{", '{"path": 3, "sha256": "x", "stamp": null}', '{"path": "/etc/passwd"}',
     '{"path": "w.safetensors", "sha256": null, "stamp": [1]}', "[" * 5000],
)  # fmt: skip
def test_a_damaged_memory_is_no_memory(content: str, here: Path) -> None:
    record = next(Path("state").rglob("*.json"))
    record.write_text(content)
    assert "was not opened" in str(search())
    assert search("cache", "--pretrained", "w.safetensors") is None
    assert search() is None


@pytest.mark.parametrize("sha256", ["../../../x", "/etc/passwd", "A" * 64, "", "0" * 63, "é" * 64])
def test_the_hash_that_a_cache_claims_leads_nowhere(sha256: str, here: Path) -> None:
    content = json.loads(Path("cache/cache.json").read_text())
    content["fingerprint"]["sha256"] = sha256
    Path("cache/cache.json").write_text(json.dumps(content))
    Path("x.json").write_text(next(Path("state").rglob("*.json")).read_text())
    assert "head-init.safetensors is of another backbone" in str(search())
    Path("cache/head-init.safetensors").unlink()  # nor when nothing contradicts the claim
    assert search() is not None


@pytest.mark.parametrize("surroundings", [{}, {"HOME": "relative"}, {"XDG_STATE_HOME": "relative"}])
def test_without_a_home_weights_are_passed_each_time(
    surroundings: dict[str, str], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a user without a name has it, in a container."""
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    found = CliRunner().invoke(group, [*SEARCH, "cache", "--pretrained", "w.safetensors"])
    assert found.exit_code == 0, found.exception
    assert "cannot be noted (there is no home folder" in found.stderr
    assert found.stderr.count("--pretrained") == 1
    assert str(search()).endswith("pass --pretrained w.safetensors once.")
    assert not Path("relative").exists()


def nobody(number: int) -> object:
    raise KeyError(number)


def test_a_memory_that_cannot_be_written_costs_a_line_and_no_hits(here: Path) -> None:
    shutil.rmtree("state")
    Path("state").write_text("a file where the folder should be")
    found = CliRunner().invoke(group, [*SEARCH, "cache", "--pretrained", "w.safetensors"])
    assert found.exit_code == 0, found.exception
    assert "cannot be noted" in found.stderr
    assert json.loads(found.stdout.splitlines()[0])["rank"] == 1


def test_what_a_line_proposes_can_be_pasted_into_a_shell(here: Path) -> None:
    shutil.rmtree("state")
    content = json.loads(Path("cache/cache.json").read_text())
    for name, shown in (
        ("x; touch y", "'x; touch y'"),
        ("\x1b]0;\x07", "FILE"),
        ("a\u202eb", "FILE"),
    ):
        content["fingerprint"]["weights"] = name
        Path("cache/cache.json").write_text(json.dumps(content))
        assert str(search()).endswith(f"pass --pretrained {shown} once.")
