"""The text tower alone computes what the whole backbone does, and is loaded only when known."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from c4c.core.records import Fingerprint
from c4c.extract.backbone import trusted
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.text import open_text_tower
from c4c.extract.backbone.trusted import remember
from c4c.retrieval.searcher import Searcher

TEXTS = ["a dog runs", "", "a red circle moves left then a white cross grows! " * 12]
SMALL = "ViT-S-32-alt"


@pytest.fixture(autouse=True)
def _own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small CLIP, as safetensors and as torch writes them."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    backbone = load_backbone(SMALL, "none", "cpu", "float32")
    backbone.save(folder / "w.safetensors")
    torch.save(backbone.model.state_dict(), folder / "w.pt")
    return folder


def made_with(backbone: Backbone) -> Fingerprint:
    return backbone.fingerprint("1 fps", "pyav 1")


def check_same(whole: Backbone, asked: str | None = None) -> None:
    tower = open_text_tower(made_with(whole), asked, "cpu")
    assert tower is not None
    tokens = whole.tokenize(TEXTS)
    assert torch.equal(tower.tokenize(TEXTS), tokens)
    with torch.inference_mode():
        for hidden in (False, True):
            own, expected = (one.encode_text(tokens, hidden) for one in (tower, whole))
            assert own.dtype == expected.dtype
            assert torch.equal(own, expected)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_shipped_backbone_alone_gives_the_same_bits(precision: str) -> None:
    check_same(load_backbone("tiny", None, "cpu", precision))


@pytest.mark.parametrize(
    ("name", "file", "precision"),
    [
        (SMALL, "w.safetensors", "float32"),
        (SMALL, "w.pt", "bfloat16"),
        ("auto", "w.safetensors", "float32"),
    ],
)
def test_a_clip_from_a_file_gives_the_same_bits(
    weights: Path, name: str, file: str, precision: str
) -> None:
    path = str(weights / file)
    whole = load_backbone(name, path, "cpu", precision)
    assert open_text_tower(made_with(whole), None, "cpu") is None  # nobody named it yet
    remember(whole)
    check_same(whole)
    check_same(whole, path)
    assert open_text_tower(made_with(whole), "another.pt", "cpu") is None


def test_what_is_not_known_by_hash_is_left_to_the_whole_backbone(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trusted, "_SETTLED", 0)
    path = tmp_path / "w.safetensors"
    path.write_bytes((weights / "w.safetensors").read_bytes())
    whole = load_backbone(SMALL, str(path), "cpu", "float32")
    made = made_with(whole)
    remember(whole)
    (record,) = (tmp_path / "state").rglob("*.json")
    before = record.read_text()
    assert json.loads(before)["quick_gelu"] is False
    record.write_text(json.dumps({**json.loads(before), "quick_gelu": None}))  # as written before
    assert open_text_tower(made, None, "cpu") is None
    record.write_text(before)
    assert open_text_tower(made, None, "cpu") is not None
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, (1, 1))
    assert open_text_tower(made, None, "cpu") is None


def test_a_precision_that_nobody_knows_is_left_to_the_whole_backbone() -> None:
    made = made_with(load_backbone("tiny", None, "cpu", "float32"))
    assert open_text_tower(made, None, "cpu") is not None
    assert open_text_tower(replace(made, dtype="float16"), None, "cpu") is None


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "PE-Core-B-16", "coca_ViT-B-32"])
def test_other_towers_are_left_to_the_whole_backbone(weights: Path, name: str) -> None:
    whole = load_backbone(SMALL, str(weights / "w.safetensors"), "cpu", "float32")
    remember(whole)
    whole.name = name
    assert open_text_tower(made_with(whole), None, "cpu") is None


def test_a_search_imports_no_more_than_it_needs(shapes_cache: Path) -> None:
    Searcher(shapes_cache, device="cpu").gallery  # noqa: B018 - made before it is asked
    code = (
        "import sys; from c4c.retrieval.searcher import Searcher\n"
        f"assert Searcher({str(shapes_cache)!r}, device='cpu')('a red circle', k=1)\n"
        "heavy = 'open_clip torchvision timm transformers av h5py torch._dynamo sympy'.split()\n"
        "print(*[name for name in heavy if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert done.stdout.decode().strip() == ""
