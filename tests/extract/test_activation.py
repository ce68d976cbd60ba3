"""Weights in a file run with the activation that they were trained with, and it is said which."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from click.testing import CliRunner
from open_clip import factory
from safetensors.torch import save_file

from c4c.cache.open import Cache
from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.backbone.activation import with_activation
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.towers import uses_quick_gelu
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes

CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A model of open_clip's with both activations, and small: Small and Small-quickgelu."""
    folder = tmp_path_factory.mktemp("configs")
    (folder / "Small.json").write_text(json.dumps(CONFIG))
    (folder / "Small-quickgelu.json").write_text(json.dumps({**CONFIG, "quick_gelu": True}))
    paths, configs = list(factory._MODEL_CONFIG_PATHS), dict(factory._MODEL_CONFIGS)
    open_clip.add_model_config(folder)
    yield
    factory._MODEL_CONFIG_PATHS[:] = paths
    factory._MODEL_CONFIGS.clear()
    factory._MODEL_CONFIGS.update(configs)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A plain state dict that says nothing."""
    torch.manual_seed(0)
    model = load_backbone("Small", "none", "cpu", "float32").model
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_what_nothing_tells_is_the_names_and_said(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_activation("Small", str(weights)) == "Small"
    words = capsys.readouterr().err
    assert "activation: GELU, as Small has it: the file says nothing" in words
    assert "need --quick-gelu" in words
    assert with_activation("Small-quickgelu", str(weights)) == "Small-quickgelu"
    assert "activation: QuickGELU, as Small-quickgelu has it" in capsys.readouterr().err


def test_openais_own_state_dict_is_known_by_what_else_it_holds(
    weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(weights, weights_only=True)
    sizes = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    state |= {name: torch.tensor(size) for name, size in sizes.items()}
    torch.save(state, weights)
    name = with_activation("Small", str(weights))
    assert name == "Small-quickgelu"
    assert "QuickGELU, as OpenAI's models have it" in capsys.readouterr().err
    assert uses_quick_gelu(load_backbone(name, str(weights), "cpu", "float32").model)


def test_a_published_file_is_known_by_its_hash_or_by_its_name(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from open_clip import pretrained

    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    url = f"https://example.org/small-quickgelu-{digest[:8]}.pt"
    known = {"published": {"url": url, "quick_gelu": True}}
    monkeypatch.setitem(pretrained._PRETRAINED, "Small", known)
    assert with_activation("Small", str(weights)) == "Small-quickgelu"
    assert "by its hash, which is that of 'published'" in capsys.readouterr().err
    known["published"]["url"] = "https://example.org/weights.pt"
    assert with_activation("Small", str(weights)) == "Small-quickgelu"
    assert "by its name, which is that of 'published'" in capsys.readouterr().err
    known["published"] = {"hf_hub": "timm/small_clip.openai/", "quick_gelu": True}
    hub = weights.parent / "models--timm--small_clip.openai"
    hub.mkdir()
    weights.rename(hub / "open_clip_model.bin")
    assert with_activation("Small", str(hub / "open_clip_model.bin")) == "Small-quickgelu"


@pytest.mark.parametrize(
    ("name", "content", "quick"),
    [
        ("open_clip_config.json", {"model_cfg": {**CONFIG, "quick_gelu": True}}, True),
        ("open_clip_config.json", {"model_cfg": CONFIG}, False),
        ("config.json", {"vision_config": {"hidden_act": "quick_gelu"}}, True),
        ("config.json", {"vision_config": {"hidden_act": "gelu"}}, False),
    ],
)
def test_a_configuration_beside_the_file_tells(
    name: str, content: Any, quick: bool, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (weights.parent / name).write_text(json.dumps(content))
    assert with_activation("Small", str(weights)).endswith("-quickgelu") == quick
    assert "as the configuration beside it says" in capsys.readouterr().err


def test_what_the_file_says_itself_comes_first(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    path = weights.with_suffix(".safetensors")
    save_file({k: v.contiguous() for k, v in state.items()}, path, {"quick_gelu": "true"})
    assert with_activation("Small", str(path)) == "Small"  # as before: the model is built so
    assert uses_quick_gelu(load_backbone("Small", str(path), "cpu", "float32").model)


@pytest.mark.shows("extract", "--quick-gelu")
def test_the_user_has_the_last_word_and_the_cache_keeps_it(weights: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", Recipe(seed=3, train=1, val=0, test=0))
    found = {}
    for option in ("--quick-gelu", "--no-quick-gelu"):
        args = ["extract", str(tmp_path / "shapes/videos"), "--cache", str(tmp_path / option)]
        args += ["--backbone", "Small", "--pretrained", str(weights), option]
        args += ["--device", "cpu", "--workers", "1", "--precision", "float32"]
        done = CliRunner().invoke(group, args, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "as you say" in done.output
        cache = Cache.open(tmp_path / option)
        found[option] = cache.clips().read(0)[0]
        assert cache.fingerprint.model == ("Small-quickgelu" if option[2] == "q" else "Small")
    assert not np.allclose(found["--quick-gelu"], found["--no-quick-gelu"], atol=1e-3)
    with pytest.raises(C4CError, match="weights are a file"):
        with_activation("tiny", None, True)


@pytest.mark.shows("train-e2e", "--quick-gelu")
def test_training_keeps_the_activation_that_the_user_names(weights: Path, tmp_path: Path) -> None:
    make_shapes(tmp_path / "shapes", Recipe(seed=3, train=2, val=0, test=0))
    args = ["train-e2e", "--dataset", "shapes", "--root", str(tmp_path / "shapes"), "--quick-gelu"]
    args += ["--backbone", "Small", "--pretrained", str(weights), "--out", str(tmp_path / "run")]
    args += ["--head", "meanP", "--eval-split", "none", "--epochs", "1", "--batch", "2"]
    args += ["--max-frames", "2", "--device", "cpu", "--workers", "1"]
    done = CliRunner().invoke(group, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "as you say" in done.output
    trained = str(tmp_path / "run/best")
    name = with_activation("Small", trained)  # the checkpoint says it by itself
    assert uses_quick_gelu(load_backbone(name, trained, "cpu", "float32").model)
