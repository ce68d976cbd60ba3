"""One small model of each family: features, projections, saving, preprocessing, tokenizers.

Every name that open_clip knows is gone over by ``make backbones``.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from families import FAMILIES, known_families, make_tokenizer
from open_clip.factory import _MODEL_CONFIGS
from safetensors.torch import save_file

from c4c.core.errors import C4CError
from c4c.extract.backbone import memory, tokens
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module", autouse=True)
def known() -> Iterator[None]:
    with known_families():
        yield


def build(name: str, folder: Path, **more: Any) -> Backbone:
    local = folder if "hf_tokenizer_name" in FAMILIES[name]["text_cfg"] else None
    settings = {"pretrained": "none", "device": "cpu", "precision": "float32", **more}
    return load_backbone(f"small-{name}", tokenizer=local, **settings)


@pytest.fixture(scope="module")
def held(folder: Path) -> dict[str, Backbone]:
    return {name: build(name, folder) for name in FAMILIES}


PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 40, 70, 3), np.uint8))
TEXTS = ["a red circle moves left", "blue square"]


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_features_are_those_of_the_models_own_methods(name: str, held: dict[str, Backbone]) -> None:
    backbone = held[name]
    images, ids = backbone.preprocess(PIXELS), backbone.tokenize(TEXTS)
    frames, texts = backbone.encode_frames(images), backbone.encode_text(ids)
    assert frames.shape == texts.shape == (2, backbone.embed_dim)
    assert torch.equal(frames, backbone.model.encode_image(images, normalize=False))
    theirs = backbone.model.encode_text(ids, normalize=False)
    torch.testing.assert_close(texts, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(texts[0], texts[1])
    # Padded to the whole context or not, the words that count are the same.
    short = backbone.encode_text(backbone.tokenize(TEXTS, max_words=7))
    torch.testing.assert_close(short, texts, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_hidden_features_times_the_projection_are_the_final_ones(
    name: str, held: dict[str, Backbone]
) -> None:
    backbone = held[name]
    init, images, ids = backbone.head_init(), backbone.preprocess(PIXELS), backbone.tokenize(TEXTS)
    if name == "siglip":
        assert int(init["embed_dim"]) == backbone.embed_dim
        for refused in (lambda: backbone.encode_frames(images, True), lambda: backbone.hidden_dims):
            with pytest.raises(C4CError, match="no linear projection"):
                refused()
        return
    hidden, texts = backbone.encode_frames(images, True), backbone.encode_text(ids, True)
    assert (hidden.shape[1], texts.shape[1]) == backbone.hidden_dims
    near = {"rtol": 1e-3, "atol": 1e-5}
    torch.testing.assert_close(hidden @ init["visual_proj"], backbone.encode_frames(images), **near)
    torch.testing.assert_close(texts @ init["text_proj"], backbone.encode_text(ids), **near)


@pytest.mark.parametrize("name", FAMILIES)
def test_saved_and_loaded_a_backbone_is_the_same(
    name: str, held: dict[str, Backbone], folder: Path, tmp_path: Path
) -> None:
    usual = held[name].preprocessing
    other = replace(usual, resize="squash", interpolation="bilinear", mean=(0.5, 0.5, 0.5))
    backbone = replace(held[name], preprocessing=other)
    backbone.save(tmp_path / "backbone.safetensors")
    again = build(name, folder, pretrained=str(tmp_path))
    mine, theirs = backbone.fingerprint("s", "d"), again.fingerprint("s", "d")
    assert [one for one in theirs.differences(mine) if not one.startswith("weights:")] == []
    ids, images = again.tokenize(TEXTS), backbone.preprocess(PIXELS)
    assert torch.equal(again.preprocess(PIXELS), images)
    with torch.inference_mode():
        assert torch.equal(again.encode_frames(images), backbone.encode_frames(images))
        assert torch.equal(again.encode_text(ids), backbone.encode_text(ids))


@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_gives_nearly_the_same(
    name: str, held: dict[str, Backbone], folder: Path
) -> None:
    whole, half = held[name], build(name, folder, precision="bfloat16")
    images, ids = whole.preprocess(PIXELS), whole.tokenize(TEXTS)
    near = torch.nn.functional.cosine_similarity
    with torch.inference_mode():
        frames = half.encode_frames(images.bfloat16()).float()
        assert near(frames, whole.encode_frames(images)).min() > 0.98
        assert near(half.encode_text(ids).float(), whole.encode_text(ids)).min() > 0.98


@pytest.mark.parametrize("name", ["pe", "siglip", "resnet", "roberta"])
def test_heads_start_from_the_text_tower_where_its_width_fits(
    name: str, held: dict[str, Backbone]
) -> None:
    from c4c.heads import build_head

    backbone = held[name]
    head = build_head("seqTransf", backbone.embed_dim, backbone.head_init())
    words = {
        "siglip": "1 layers of CLIP's text transformer, 3 of 4 at random",
        "roberta": "0 layers of CLIP's text transformer, 4 of 4 at random",
    }
    assert words.get(name, "64 wide, not 48") in str(head.origin)


def test_weights_without_preprocessing_get_that_of_a_tag(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {**FAMILIES["resnet"], "embed_dim": 48}
    monkeypatch.setitem(_MODEL_CONFIGS, "RN50", small)  # its tags, and little to compute
    model = open_clip.create_model("RN50")
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    backbone = load_backbone("RN50", str(tmp_path / "w.safetensors"), "cpu", "float32")
    backbone.tell_preprocessing()
    told = capsys.readouterr().err
    assert "resize 64 bicubic" in told and "of the tag openai" in told
    named = load_backbone("RN50", str(tmp_path / "w.safetensors"), "cpu", preprocess="cc12m")
    assert named.origin == "of the tag cc12m"
    with pytest.raises(C4CError, match="has no tag 'webli'. Tags: openai"):
        load_backbone("RN50", str(tmp_path / "w.safetensors"), "cpu", preprocess="webli")


def test_a_model_that_does_not_fit_into_memory_is_refused_before_it_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    monkeypatch.setattr(open_clip, "create_model", None)
    with pytest.raises(C4CError, match="million parameters and takes .* GB to build; 1.0 GB"):
        load_backbone("ViT-bigG-14", "none")


def test_what_is_missing_for_a_tokenizer_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    backbone = Backbone(None, "small-clipa", "none", "", "float32", None, None)  # type: ignore
    backbone.tokenizer = tokens.Tokenizer("small-clipa")
    with pytest.raises(C4CError, match="pass --tokenizer FOLDER"):
        backbone.tokenizer(["a"], 16)
    with pytest.raises(C4CError, match="no tokenizer there"):
        tokens.Tokenizer("small-clipa", tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(C4CError, match=r"pip install 'c4c\[hf\]'"):
        backbone.tokenizer(["a"], 16)


def test_a_lone_tokenizer_file_is_enough(folder: Path, tmp_path: Path) -> None:
    lone = tmp_path / "words.json"
    content = json.loads((folder / "tokenizer.json").read_text())
    lone.write_text(json.dumps(content))
    by_file = tokens.Tokenizer("small-clipa", lone)(TEXTS, 16)
    assert torch.equal(by_file, tokens.Tokenizer("small-clipa", folder)(TEXTS, 16))
    content["added_tokens"] = []
    lone.write_text(json.dumps(content))
    with pytest.raises(C4CError, match="no token to pad with"):
        tokens.Tokenizer("small-clipa", lone)(TEXTS, 16)


def test_a_folder_with_another_kind_of_tower_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    about = json.loads((folder / "config.json").read_text())
    for change in ({"model_type": "evil"}, {"auto_map": {"AutoConfig": "evil.py"}}):
        (tmp_path / "config.json").write_text(json.dumps(about | change))
        with pytest.raises(C4CError, match="no text tower that open_clip knows"):
            load_backbone("small-roberta", "none", "cpu", tokenizer=tmp_path)


def test_layers_are_frozen_in_every_tower_that_has_them(
    held: dict[str, Backbone], capsys: pytest.CaptureFixture[str]
) -> None:
    from c4c.training.layers import freeze

    def learns(name: str) -> set[str]:
        freeze(held[name].model, 1)
        parameters = held[name].model.named_parameters()
        return {key for key, one in parameters if one.requires_grad}

    siglip = learns("siglip")
    assert "visual.trunk.blocks.1.mlp.fc1.weight" in siglip
    for frozen in ("visual.trunk.blocks.0.", "visual.trunk.patch_embed.", "text.token_embedding."):
        assert not any(name.startswith(frozen) for name in siglip)
    assert "has no row of layers" not in capsys.readouterr().err
    assert "visual.layer1.0.conv1.weight" in learns("resnet")
    assert "has no row of layers" in capsys.readouterr().err
    for name in ("siglip", "resnet"):
        held[name].model.requires_grad_(True)
