"""What heads start from: a changed byte is noticed, named, and written again by the next run."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from c4c.cache.head_init import NAME, read_head_init, save_head_init
from c4c.cache.inspect import damage
from c4c.cache.open import Cache, create_cache
from c4c.core.errors import C4CError
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract
from c4c.training.cached import train_head
from c4c.training.config import TrainHeadConfig


def config(here: Path, cache: Path) -> ExtractConfig:
    return ExtractConfig(
        dataset="shapes", root=here / "shapes", cache=cache, backbone="tiny", workers=1
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("cache")
    make_shapes(here / "shapes", Recipe(seed=2, train=4, val=0, test=0))
    run_extract(config(here, here / "cache"))
    return here


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "cache", tmp_path / "cache"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def damages(path: Path) -> dict[str, object]:
    """Ways to damage a file: the header's length, its text, the first and the last number, ends."""
    size = path.stat().st_size
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    flips = {str(place): lambda p, place=place: flip(p, place) for place in (0, 9, header, -1)}
    cuts = {
        f"cut at {end}": lambda p, end=end: p.write_bytes(p.read_bytes()[:end])
        for end in (0, 7, header // 2, header, size - 1)
    }
    return {**flips, **cuts, "longer": lambda p: p.write_bytes(p.read_bytes() + b"x")}


def test_every_damage_is_noticed_and_repaired(made: Path, copy: Path) -> None:
    path = copy / NAME
    whole = path.read_bytes()
    for name, spoil in damages(path).items():
        spoil(path)  # type: ignore[operator]
        with pytest.raises(C4CError, match=NAME):
            Cache.open(copy).head_init()
        (line,) = damage(copy)
        assert NAME in line, name
        found, aside = damage(copy, repair=True)
        assert "set aside" in aside
        assert not path.exists()
        run_extract(config(made, copy))
        assert path.read_bytes() == whole, name
        assert list(damage(copy)) == []


def test_the_next_extraction_writes_it_again_without_a_repair(made: Path, copy: Path) -> None:
    whole = (copy / NAME).read_bytes()
    flip(copy / NAME, -1)
    run_extract(config(made, copy))
    assert (copy / NAME).read_bytes() == whole


def test_training_says_what_is_wrong_and_what_to_do(copy: Path, tmp_path: Path) -> None:
    settings = TrainHeadConfig(head="seqTransf", cache=copy, out=tmp_path / "run", batch=4)
    flip(copy / NAME, -1)
    with pytest.raises(C4CError, match=r"differ from their checksum; run c4c cache verify --repa"):
        train_head(settings)
    (copy / NAME).unlink()
    with pytest.raises(C4CError, match="does not exist; run the same c4c extract"):
        train_head(settings)


def test_that_of_another_backbone_is_refused(copy: Path, tmp_path: Path) -> None:
    """It has the right names and shapes, and heads would start from another space."""
    held = Cache.open(copy)
    other = tmp_path / "other"
    create_cache(other, "shapes", replace(held.fingerprint, sha256="f" * 64))
    init = {name: value + 1 for name, value in held.head_init().items()}
    save_head_init(other, init, "f" * 64)
    assert torch.equal(Cache.open(other).head_init()["visual_proj"], init["visual_proj"])
    shutil.copy(other / NAME, copy / NAME)
    with pytest.raises(C4CError, match="of another backbone"):
        Cache.open(copy).head_init()
    assert any("of another backbone" in line for line in damage(copy))


def test_one_from_before_there_were_checksums_is_read_and_gets_them(
    made: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (copy / NAME).read_bytes()
    save_file(load_file(copy / NAME), copy / NAME)
    backbone = Cache.open(copy).fingerprint.sha256
    assert read_head_init(copy, backbone)[1] is False
    assert list(damage(copy)) == []
    assert "from before it had a checksum" in capsys.readouterr().err
    run_extract(config(made, copy))
    assert (copy / NAME).read_bytes() == whole


def test_what_cannot_be_read_is_told_and_never_moved(copy: Path) -> None:
    (copy / NAME).unlink()
    (copy / NAME).mkdir()
    (line,) = damage(copy, repair=True)
    assert "not a regular file" in line
    assert (copy / NAME).is_dir()
