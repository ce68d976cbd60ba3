"""The text tower alone computes what the whole backbone does, and is loaded only when known."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, known_families, make_tokenizer
from open_clip import factory

from c4c.core.records import Fingerprint
from c4c.extract.backbone import text, trusted
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.text import open_text_tower
from c4c.extract.backbone.trusted import remember
from c4c.extract.backbone.weights import read_weights
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


def test_who_loads_it_in_inference_mode_gets_the_same_bits() -> None:
    with torch.inference_mode():
        whole = load_backbone("tiny", None, "cpu", "float32")
        tower = open_text_tower(made_with(whole), None, "cpu")
    assert tower is not None
    for model in (whole.model, tower._model):
        assert all(one.requires_grad and not one.is_inference() for one in model.parameters())
    check_same(whole)


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


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Small models whose text tower open_clip holds apart, as names that it knows."""
    folder = tmp_path_factory.mktemp("apart")
    (folder / "model_configs").mkdir()
    with known_families():
        for name in FAMILIES:
            config = folder / f"model_configs/small-{name}.json"
            config.write_text(json.dumps(factory._MODEL_CONFIGS[f"small-{name}"]))
        (folder / "words").mkdir()
        make_tokenizer(folder / "words")
        yield folder


def kept(name: str, apart: Path, path: Path, precision: str = "float32") -> Backbone:
    """A backbone of random weights from a file, which the user has named."""
    local = apart / "words" if "hf_tokenizer_name" in FAMILIES[name]["text_cfg"] else None
    drawn = load_backbone(f"small-{name}", "none", "cpu", "float32", tokenizer=local)
    drawn.save(path)
    whole = load_backbone(f"small-{name}", str(path), "cpu", precision, tokenizer=local)
    remember(whole)
    return whole


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["pe", "siglip", "coca"])
def test_a_text_tower_of_its_own_gives_the_same_bits_and_no_other_is_built(
    name: str, precision: str, apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_open_clip_folder", lambda: apart)
    whole = kept(name, apart, tmp_path / "w.safetensors", precision)
    for builder in ("_build_vision_tower", "CLIP", "CustomTextCLIP"):
        monkeypatch.setattr(f"open_clip.model.{builder}", None)
    check_same(whole)


def test_a_tower_apart_is_read_where_its_file_is_and_the_vision_tower_not_at_all(
    apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_open_clip_folder", lambda: apart)
    whole = kept("pe", apart, tmp_path / "w.safetensors")
    read: dict[str, torch.Tensor] = {}

    def watched(*asked: Any) -> Any:
        state, known = read_weights(*asked)
        read.update(state)
        return state, known

    monkeypatch.setattr(text, "read_weights", watched)
    tower = open_text_tower(made_with(whole), None, "cpu")
    assert tower is not None
    own = {value.data_ptr() for value in tower._model.state_dict().values()}
    assert own <= {value.data_ptr() for value in read.values()}
    assert not any(name.startswith("visual.") for name in read if "conv1" not in name)


@pytest.mark.parametrize("name", ["clipa", "roberta"])
def test_other_towers_are_left_to_the_whole_backbone(
    name: str, apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_open_clip_folder", lambda: apart)
    whole = kept(name, apart, tmp_path / "w.safetensors")
    assert open_text_tower(made_with(whole), None, "cpu") is None


def test_weights_of_another_model_are_left_to_the_whole_backbone(weights: Path) -> None:
    whole = load_backbone(SMALL, str(weights / "w.safetensors"), "cpu", "float32")
    remember(whole)
    whole.name = "PE-Core-B-16"
    assert open_text_tower(made_with(whole), None, "cpu") is None


def test_a_tokenizer_that_nobody_named_here_is_left_to_the_whole_backbone(
    apart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_open_clip_folder", lambda: apart)
    made = made_with(kept("siglip", apart, tmp_path / "w.safetensors"))
    assert open_text_tower(made, None, "cpu") is not None
    assert open_text_tower(replace(made, tokenizer="0" * 64), None, "cpu") is None


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
