"""What computes the vision tower: as asked for, as recorded, or as measured."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from open_clip import factory

from c4c.cache.inspect import damage
from c4c.cache.open import Cache, create_cache
from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.core.records import Fingerprint
from c4c.extract.backbone import graphs
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.openvino_tower import OpenVinoTower, converted
from c4c.extract.backbone.patch3d import add_patch3d
from c4c.extract.config import ExtractConfig
from c4c.extract.opening import settled

# Not by importing them: so they would tell their makers, and a test asks whether they did.
THERE = all(importlib.util.find_spec(name) for name in ("openvino", "nncf"))
needs_openvino = pytest.mark.skipif(not THERE, reason="needs openvino and nncf")
NAME = "small-vit"
SMALL = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2},
    "text_cfg": {"width": 64, "heads": 2, "layers": 1},
}
COCA = {
    "vision_cfg": {**SMALL["vision_cfg"], "attentional_pool": True, "output_tokens": True},
    "text_cfg": {**SMALL["text_cfg"], "context_length": 76, "embed_cls": True,
                 "output_tokens": True},
    "multimodal_cfg": {**SMALL["text_cfg"], "context_length": 76},
    "custom_text": True,
    "embed_dim": 48,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def here(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Six videos, weights of a small backbone, and a cache folder of the user's own."""
    here = tmp_path_factory.mktemp("backends")
    (here / "videos").mkdir()
    for number, path in enumerate(sorted((shapes_root / "videos").rglob("val-*.mp4"))[:6]):
        (here / "videos" / f"{number}.mp4").write_bytes(path.read_bytes())
    factory._MODEL_CONFIGS |= {NAME: SMALL, "small-coca": COCA}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(here / "own"))
        load(NAME).save(here / "w.safetensors")
        yield here
    for name in (NAME, "small-coca"):
        factory._MODEL_CONFIGS.pop(name, None)


def load(name: str) -> Backbone:
    torch.manual_seed(0)
    return load_backbone(name, "none", "cpu", "float32")


def extract(here: Path, cache: Path, *options: str) -> tuple[int, str]:
    """Exit status, and what was said; ``main`` makes a line and status 2 of our own errors."""
    command = ["extract", str(here / "videos"), "--cache", str(cache), "--backbone", NAME]
    command += ["--pretrained", str(here / "w.safetensors"), "--workers", "1", "--device", "cpu"]
    done = CliRunner().invoke(group, [*command, *options])
    if isinstance(done.exception, C4CError):
        return 2, str(done.exception)
    assert done.exception is None or done.exit_code == 3, done.exception
    return done.exit_code, done.output


def features(cache: Path) -> np.ndarray:
    clips = Cache.open(cache).clips()
    return np.concatenate([clips.read(place)[0] for place in range(len(clips))])


def cosines(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    a, b = mine.astype(np.float64), theirs.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def plain(here: Path) -> Path:
    assert extract(here, here / "torch", "--precision", "float32")[0] == 0
    return here / "torch"


@pytest.fixture(scope="module")
def eight(here: Path) -> Path:
    code, words = extract(here, here / "int8", "--precision", "int8")
    assert code == 0, words
    return here / "int8"


@needs_openvino
def test_openvino_computes_what_torch_does_and_a_cache_goes_on_with_it(
    here: Path, plain: Path, tmp_path: Path
) -> None:
    options = ("--backend", "openvino", "--precision", "float32")
    assert extract(here, tmp_path / "ov", *options, "--include", "[0-4].mp4")[0] == 0
    assert Cache.open(tmp_path / "ov").fingerprint.backend == "openvino"
    assert extract(here, tmp_path / "ov")[0] == 0  # the sixth video
    assert cosines(features(tmp_path / "ov"), features(plain)).min() > 0.9999
    code, words = extract(here, tmp_path / "ov", "--backend", "torch")
    assert code == 2 and "begun with --backend openvino --precision float32" in words
    # Converted once, and kept in the user's own folder.
    assert len(list((here / "own/c4c/openvino").iterdir())) == 1
    assert sys.modules.get("openvino_telemetry") is None


@needs_openvino
@pytest.mark.shows("extract", "--precision")
def test_int8_is_close_recorded_and_the_same_in_every_run(
    here: Path, plain: Path, eight: Path, tmp_path: Path
) -> None:
    made = Cache.open(eight).fingerprint
    assert (made.backend, made.dtype, len(made.calibrated)) == ("openvino", "int8", 64)
    assert cosines(features(eight), features(plain)).min() > 0.995
    # Calibrated on the first frames of the whole dataset, whichever part comes first.
    part = ("--precision", "int8", "--shard-clips", "3", "--slice")
    assert extract(here, tmp_path / "again", *part, "1/2")[0] == 0
    assert Cache.open(tmp_path / "again").fingerprint == made
    assert extract(here, tmp_path / "again")[0] == 0  # goes on without options
    assert cosines(features(tmp_path / "again"), features(eight)).min() > 0.99999
    code, words = extract(here, eight, "--precision", "float32")
    assert code == 2 and "begun with --backend openvino --precision int8" in words


@needs_openvino
def test_an_int8_tower_that_changed_is_noticed(here: Path, eight: Path, tmp_path: Path) -> None:
    name = next(eight.glob("calibrated-*.safetensors")).name
    made = Cache.open(eight).fingerprint
    cache = create_cache(tmp_path / "copy", "folder", made).path
    content = bytearray((eight / name).read_bytes())
    content[-5] ^= 1
    (cache / name).write_bytes(content)
    assert any("calibrated" in str(one) for one in damage(cache))
    code, words = extract(here, cache)
    assert code == 2 and f"{name} differs from what was written" in words
    (cache / name).unlink()
    code, words = extract(here, cache)
    assert code == 2 and "the int8 tower of this cache, does not exist" in words
    (cache / "cache.json").unlink()
    cache = create_cache(tmp_path / "copy", "folder", dataclasses.replace(made, calibrated="../x"))
    code, words = extract(here, cache.path)
    assert code == 2 and "no SHA-256" in words


@needs_openvino
def test_texts_of_an_int8_cache_go_through_torch(here: Path, eight: Path) -> None:
    command = ["retrieve", "a red circle", "--cache", str(eight), "--device", "cpu"]
    done = CliRunner().invoke(group, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert ".mp4" in done.stdout


@needs_openvino
@pytest.mark.shows("extract", "--backend", "--allow-int8")
def test_auto_takes_the_fastest_and_int8_only_when_it_may(here: Path, tmp_path: Path) -> None:
    for allowed in (False, True):
        cache = tmp_path / str(allowed)
        own = ("--allow-int8",) if allowed else ()
        code, words = extract(here, cache, "--backend", "auto", *own)
        assert code == 0, words
        said = re.search(r"backend: (\w+ \w+) \(frames/s here: (.*)\)", words)
        assert said, words
        rates = dict(re.findall(r"(\w+ \w+) ([0-9.]+)", said[2]))
        assert ("openvino int8" in rates) == allowed
        assert float(rates[said[1]]) == max(map(float, rates.values()))
        made = Cache.open(cache).fingerprint
        assert f"{made.engine} {made.dtype}" == said[1]
        assert extract(here, cache, "--backend", "auto", *own)[1].count("backend:") == 0
    code, words = extract(here, tmp_path / "x", "--allow-int8")
    assert code == 2 and "is of --backend auto" in words


def test_without_openvino_auto_is_torch_and_a_wish_for_it_names_the_extra(
    here: Path, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    code, words = extract(here, tmp_path / "auto", "--backend", "auto")
    assert code == 0 and "backend: torch (OpenVINO cannot be loaded" in words
    assert Cache.open(tmp_path / "auto").fingerprint.backend == "torch"
    for wish in (("--backend", "openvino"), ("--precision", "int8")):
        code, words = extract(here, tmp_path / "wish", *wish)
        assert code == 2 and "pip install 'c4c[openvino]'" in words
        assert not (tmp_path / "wish").exists()
    create_cache(
        tmp_path / "begun",
        "folder",
        dataclasses.replace(Cache.open(plain).fingerprint, backend="openvino"),
    )
    code, words = extract(here, tmp_path / "begun")
    assert code == 2 and "was begun with OpenVINO. OpenVINO cannot be loaded" in words


ENDED_TOWERS = """
import faulthandler, os, signal, torch
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.openvino_tower import OpenVinoTower, converted

faulthandler.enable(open(os.devnull, "w"))  # gives signal handlers a stack, as a plugin does
graph = converted(load_backbone("tiny", None, "cpu", "float32"))
towers = [OpenVinoTower(graph, "float32"), OpenVinoTower(graph, "float32")]
for tower in towers:
    tower(torch.zeros(1, 3, 64, 64))
while towers:
    del tower
    tower = towers.pop(0)
del tower
signal.signal(signal.SIGINT, lambda *_: print("stopped"))
os.kill(os.getpid(), signal.SIGINT)
"""


@needs_openvino
def test_a_process_that_used_openvino_can_still_be_stopped_by_a_signal() -> None:
    command = [sys.executable, "-c", ENDED_TOWERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


@needs_openvino
@pytest.mark.parametrize(("name", "hidden"), [(NAME, True), ("small-coca", False)])
def test_hidden_features_and_towers_that_give_tokens_too_convert(name: str, hidden: bool) -> None:
    backbone = load(name)
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    tower = OpenVinoTower(converted(backbone, hidden), "float32")
    with torch.inference_mode():
        ours = backbone.encode_frames(images, hidden)
        backbone.use(tower, "float32")
        theirs = backbone.encode_frames(images, hidden)
    assert ours.shape == theirs.shape and not torch.equal(ours, theirs)  # they round otherwise
    assert cosines(ours.numpy(), theirs.numpy()).min() > 0.9999


@needs_openvino
def test_a_tower_that_does_not_convert_is_told_in_a_line(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(NAME)
    add_patch3d(backbone.model.visual)
    with pytest.raises(C4CError, match="3d patch"):
        converted(backbone)
    kind = type(backbone.model.visual)
    forward = kind.forward

    def asks(self: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        return forward(self, images if float(images.sum()) > -1e9 else -images)

    monkeypatch.setattr(kind, "forward", asks)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    code, words = extract(here, tmp_path / "cache", "--backend", "openvino")
    assert code == 2 and "does not convert to OpenVINO" in words and "\n" not in words
    assert not (tmp_path / "cache").exists()
    code, words = extract(here, tmp_path / "cache", "--backend", "auto")
    assert code == 0 and f"backend: torch ({NAME} does not convert" in words


@needs_openvino
def test_a_graph_from_elsewhere_is_looked_at_before_openvino_reads_it() -> None:
    layer = '<net><layer type="{}" version="{}"><data offset="{}" size="8"/></layer></net>'
    weights = torch.zeros(16, dtype=torch.uint8)
    for words, what in (
        (layer.format("Evil", "extension", 0), "beyond OpenVINO's own"),
        (layer.format("Const", "opset1", 9), "beyond its end"),
        (layer.format("Const", "opset1", -9), "beyond its end"),
        ("no graph", "no graph of OpenVINO's"),
    ):
        text = torch.frombuffer(bytearray(words.encode()), dtype=torch.uint8)
        with pytest.raises(C4CError, match=what):
            graphs.unpacked({"graph": text, "weights": weights})


@pytest.mark.parametrize(
    ("made", "backend"),
    [({"compiled": True}, "compile"), ({}, "torch"), ({"backend": "openvino"}, "openvino")],
)
def test_a_cache_goes_on_with_the_backend_it_was_begun_with(
    tmp_path: Path, made: dict[str, object], backend: str
) -> None:
    known = Fingerprint("m", "w", "s", "p", "f", "d", "bfloat16", batch=8)
    create_cache(tmp_path, "folder", dataclasses.replace(known, **made))
    for asked in (None, "auto", backend):
        config = settled(ExtractConfig(dataset="folder", cache=tmp_path, backend=asked))
        assert (config.backend, config.precision, config.batch) == (backend, "bfloat16", 8)
    with pytest.raises(C4CError, match="--precision int8 is of"):
        ExtractConfig(dataset="folder", backend="torch", precision="int8")
    with pytest.raises(C4CError, match="begun with"):
        settled(ExtractConfig(dataset="folder", cache=tmp_path, precision="int8"))


@needs_openvino
@pytest.mark.shows("backbones", "--measure")
def test_each_backend_is_measured_and_compared_with_float32() -> None:
    done = CliRunner().invoke(group, ["backbones", NAME, "--measure", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    head, *rows = [line.split() for line in done.stdout.splitlines()]
    assert head[:6] == ["name", "backend", "precision", "frames/s", "cosine", "least"]
    ways = {(row[1], row[2]): [float(cell) for cell in row[3:6]] for row in rows}
    assert {("torch", "float32"), ("openvino", "int8")} <= set(ways)
    assert ways["torch", "float32"][1:] == [1, 1]
    for speed, mean, least in ways.values():
        assert speed > 0 and 0.99 < least <= mean <= 1
