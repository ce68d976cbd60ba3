"""Backbones: preprocessing, texts, weights in and out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from c4c.core.errors import C4CError
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.tiny import CONFIG, TinyTokenizer
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import plan_scenes
from c4c.extract.datasets.shapes_render import render_clip


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return load_backbone("tiny", "none")


@pytest.mark.parametrize("size", [(64, 64), (90, 120), (121, 77), (31, 40), (1, 1), (65, 64)])
def test_preprocessing_agrees_with_open_clips_own(tiny: Backbone, size: tuple[int, int]) -> None:
    from open_clip import image_transform
    from PIL import Image

    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR)
    made = tiny.preprocessing
    theirs = image_transform(64, is_train=False, mean=made.mean, std=made.std)(picture)
    ours = tiny.preprocess(torch.from_numpy(np.array(picture))[None])[0]
    level = 1 / 255 / min(made.std)
    assert ours.shape == theirs.shape == (3, 64, 64)
    assert (ours - theirs).abs().mean() < level


def test_text_features_equal_open_clips_whatever_the_padding(tiny: Backbone) -> None:
    texts = ["a red circle moves left", "dog", "", "a blue square grows then a dog barks at it"]
    tokens = tiny.tokenize(texts)
    theirs = tiny.model.encode_text(tokens)
    torch.testing.assert_close(tiny.encode_text(tokens), theirs, rtol=1e-5, atol=1e-5)


def test_hidden_features_times_the_projections_are_the_final_ones(tiny: Backbone) -> None:
    init = tiny.head_init()
    images = tiny.preprocess(torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8))
    hidden = tiny.encode_frames(images, hidden=True)
    torch.testing.assert_close(hidden @ init["visual_proj"], tiny.encode_frames(images))
    tokens = tiny.tokenize(["a red circle", "two"])
    hidden = tiny.encode_text(tokens, hidden=True)
    torch.testing.assert_close(hidden @ init["text_proj"], tiny.encode_text(tokens))


def test_tokens_are_cut_with_the_end_kept() -> None:
    tokens = TinyTokenizer()(["red " * 50, "red zebra"], context_length=8)
    assert tokens.shape == (2, 8)
    assert (tokens.max(dim=1).values == CONFIG["text_cfg"]["vocab_size"] - 1).all()
    assert tokens[0].argmax() == 7
    assert tokens[1, 2:7].tolist() == [2 + byte for byte in b"zebra"]


def test_weights_survive_saving(tiny: Backbone, tmp_path: Path) -> None:
    tiny.save(tmp_path / "backbone.safetensors")
    for source in (tmp_path, tmp_path / "backbone.safetensors"):
        again = load_backbone("tiny", str(source))
        assert again.sha256 == tiny.sha256
        assert again.fingerprint("s", "d").differences(tiny.fingerprint("s", "d")) == [
            f"weights: {source}, none"
        ]


def test_the_shape_of_a_model_is_read_off_its_weights(tiny: Backbone, tmp_path: Path) -> None:
    tiny.save(tmp_path / "w.safetensors")
    auto = load_backbone("auto", str(tmp_path / "w.safetensors"))
    assert auto.image_size == 64
    assert auto.sha256 == tiny.sha256


def test_the_shipped_backbone_knows_what_it_sees() -> None:
    """Mean-pooled frames of scenes are nearest to their own captions: far above chance."""
    backbone = load_backbone("tiny")
    assert (backbone.weights, backbone.dtype) == ("shipped", "float32")
    scenes = plan_scenes(Recipe(seed=77, train=24, val=0, test=0))
    with torch.inference_mode():
        clips = [
            backbone.encode_frames(backbone.preprocess(torch.from_numpy(pixels)))
            for pixels in (render_clip(scene.events, scene.look, fps=1) for scene in scenes)
        ]
        text = backbone.encode_text(backbone.tokenize([scene.caption for scene in scenes]))
    pooled = torch.stack([torch.nn.functional.normalize(clip, dim=-1).mean(0) for clip in clips])
    best = (text @ torch.nn.functional.normalize(pooled, dim=-1).T).argmax(dim=1)
    right = (best == torch.arange(len(scenes))).float().mean()
    assert right > 0.5  # chance is 0.04


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("owned",)


def test_a_malicious_pickle_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "evil.pt"
    torch.save({"w": Evil()}, path)
    with pytest.raises(C4CError, match="evil.pt") as caught:
        load_backbone("tiny", str(path))
    assert "\n" not in str(caught.value)
    assert "owned" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "pretrained", "words"),
    [
        ("no-such-model", None, "Unknown backbone"),
        ("tiny", "missing/file.pt", "No weights at"),
        ("ViT-B-32", "no-such-tag", "no weights called"),
    ],
)
def test_what_cannot_be_loaded_says_why(name: str, pretrained: str | None, words: str) -> None:
    with pytest.raises(C4CError, match=words):
        load_backbone(name, pretrained)


@pytest.mark.parametrize("size", [0, 10, 1000, 100_000])
def test_a_cut_file_of_weights_is_one_line(tiny: Backbone, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.safetensors"
    tiny.save(path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(C4CError, match="cut.safetensors"):
        load_backbone("tiny", str(path))


def test_weights_of_another_shape_are_refused(tiny: Backbone, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {name: value.contiguous() for name, value in tiny.model.state_dict().items()}
    state["ln_final.weight"] = torch.ones(7)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(C4CError, match="does not fit"):
        load_backbone("tiny", str(tmp_path / "w.safetensors"))
