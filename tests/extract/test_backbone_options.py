"""A backbone that is no CLIP goes the whole way, through the commands themselves."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from families import FAMILIES, known_families, make_tokenizer
from open_clip import factory

from c4c.cache.open import Cache
from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.backbone.listing import listed
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.preprocessing import Preprocessing

NAME = "small-siglip"
SQUASH = Preprocessing(224, 224, "squash", "bicubic", (0.5,) * 3, (0.5,) * 3)


@pytest.fixture(scope="module")
def here(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Videos with captions, weights, and the tokenizer that they need."""
    here = tmp_path_factory.mktemp("whole")
    (here / "data/videos").mkdir(parents=True)
    (here / "words").mkdir()
    for number, path in enumerate(sorted((shapes_root / "videos").rglob("val-*.mp4"))[:4]):
        (here / "data/videos" / f"{number}.mp4").write_bytes(path.read_bytes())
    texts = ["a red circle", "a blue square moves", "a circle moves left", "red"]
    lines = [
        json.dumps({"video": f"{n}.mp4", "split": "a", "caption": t}) for n, t in enumerate(texts)
    ]
    (here / "data/captions.jsonl").write_text("\n".join(lines) + "\n")
    make_tokenizer(here / "words")
    with known_families():
        backbone = load_backbone(NAME, "none", "cpu", "float32")
        backbone.preprocessing = SQUASH
        backbone.save(here / "w.safetensors")
        yield here


def run(*words: object) -> str:
    done = CliRunner().invoke(group, [str(one) for one in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def data(here: Path) -> tuple[object, ...]:
    folder = here / "data"
    return "--dataset", "folder", "--root", folder, "--captions", folder / "captions.jsonl"


def extract(here: Path, cache: Path, *more: object, name: str = NAME) -> Cache:
    run("extract", *data(here), "--backbone", name, "--split", "a", "--cache", cache,
        "--workers", 1, "--device", "cpu", "--max-frames", 2, "--batch", 2, *more)  # fmt: skip
    return Cache.open(cache)


@pytest.fixture(scope="module")
def cache(here: Path) -> Cache:
    own = ("--pretrained", here / "w.safetensors", "--tokenizer", here / "words")
    return extract(here, here / "cache", *own)


@pytest.mark.shows("extract", "--tokenizer")
@pytest.mark.shows("retrieve", "--tokenizer")
def test_a_search_finds_the_tokenizer_that_the_cache_was_made_with(
    here: Path, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache.fingerprint.preprocessing == str(SQUASH)
    assert len(cache.fingerprint.tokenizer) == 64
    search = ("retrieve", "a red circle", "--cache", cache.path, "--device", "cpu")
    assert "0.mp4" in run(*search)  # and makes the gallery
    found = run(*search)
    assert "fills the text tower" not in found
    assert "fills the text tower's 16 tokens" in run(*search[:1], "red " * 20, *search[2:])
    other = tmp_path / "other"
    other.mkdir()
    words = json.loads((make_tokenizer(other) / "tokenizer.json").read_text())
    words["model"]["vocab"] |= {"red": 5, "a": 4}
    (other / "tokenizer.json").write_text(json.dumps(words) + " ")
    with pytest.raises(C4CError, match="another tokenizer"):
        run(*search, "--tokenizer", other)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # of somebody else
    weights = ("--pretrained", here / "w.safetensors")
    with pytest.raises(C4CError, match="pass --tokenizer"):
        run(*search, *weights)
    assert run(*search, *weights, "--tokenizer", here / "words") == found


def test_hidden_features_that_do_not_exist_are_refused_before_the_work(
    here: Path, tmp_path: Path
) -> None:
    own = ("--pretrained", here / "w.safetensors", "--tokenizer", here / "words")
    with pytest.raises(C4CError, match="ends in no linear projection"):
        extract(here, tmp_path / "cache", *own, "--features", "hidden")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("head", ["meanP", "seqLSTM", "seqTransf", "tightTransf"])
def test_every_head_trains_on_it(cache: Cache, tmp_path: Path, head: str) -> None:
    splits = ("--train-split", "a", "--eval-split", "none")
    told = run("train-head", "--head", head, "--cache", cache.path, "--out", tmp_path / "run",
               *splits, "--batch", 4, "--device", "cpu", "--epochs", 1)  # fmt: skip
    assert "checkpoint" in told


@pytest.mark.shows("train-e2e", "--tokenizer", "--preprocess")
def test_what_is_trained_sees_the_same_pixels_when_it_is_served(
    here: Path, cache: Cache, tmp_path: Path
) -> None:
    own = ("--pretrained", here / "w.safetensors", "--tokenizer", here / "words")
    train = ("train-e2e", *data(here), "--backbone", NAME,
             *own, "--head", "meanP", "--train-split", "a", "--eval-split", "none", "--epochs", 1,
             "--batch", 4, "--workers", 1, "--max-frames", 2, "--device", "cpu", "--coef-lr", 0,
             "--frame-cache", tmp_path / "frames", "--out", tmp_path / "run")  # fmt: skip
    with pytest.raises(C4CError, match="has no tag 'webli'"):
        run(*train, "--preprocess", "webli")
    run(*train)
    served = extract(here, tmp_path / "served", "--pretrained", tmp_path / "run/best", *own[2:])
    assert served.fingerprint.preprocessing == str(SQUASH)
    assert served.fingerprint.differences(cache.fingerprint) == [
        f"weights: {tmp_path / 'run/best'}, {here / 'w.safetensors'}"
    ]
    for place in range(4):
        mine, theirs = (np.asarray(one.clips().read(place)[0]) for one in (served, cache))
        assert np.array_equal(mine, theirs)


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that open_clip has weights of, and little to compute."""
    small = {**FAMILIES["pe"], "embed_dim": 48}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "PE-Core-T-16-384", small)
    return "PE-Core-T-16-384"


@pytest.mark.shows("extract", "--preprocess")
def test_frames_are_seen_as_another_tags_weights_would(
    here: Path, tmp_path: Path, tagged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = load_backbone(tagged, "none", "cpu", "float32")
    backbone.preprocessing = Preprocessing(224, 224)
    backbone.save(tmp_path / "w.safetensors")
    own = ("--pretrained", tmp_path / "w.safetensors")
    said = extract(here, tmp_path / "a", *own, name=tagged)
    asked = extract(here, tmp_path / "b", *own, "--preprocess", "meta", name=tagged)
    assert said.fingerprint.preprocessing.startswith("resize 224 bicubic")
    assert asked.fingerprint.preprocessing.startswith("squash 224x224 bilinear")
    assert not np.array_equal(*(np.asarray(one.clips().read(0)[0]) for one in (said, asked)))


@pytest.mark.shows("backbones", "--device")
def test_backbones_are_listed(tagged: str) -> None:
    (head, row) = run("backbones", tagged).splitlines()
    assert head.split()[0] == "name" and "frames/s" not in head
    assert row.split()[0] == tagged and "squash" in row and "meta" in row and "224" in row
    with pytest.raises(C4CError, match="cuda:77"):
        run("backbones", tagged, "--measure", "--device", "cuda:77")
    with pytest.raises(C4CError, match="matches 'no-such'"):
        run("backbones", "no-such")
    assert len(run("backbones", "RN50*").splitlines()) > 5


def test_the_size_of_every_model_of_open_clips_is_known() -> None:
    """Of a name that is new to open_clip, ``.ci/backbones.py --write NAME`` finds it."""
    assert [row[0] for row in listed("*") if row[0][:6] != "small-" and row[1] == "?"] == []
