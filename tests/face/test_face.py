"""``import c4c``: what it gives, and that each function is the command of its name."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import c4c
from c4c.cli.app import group
from c4c.core.progress import Update
from c4c.extract.config import ExtractConfig
from c4c.heads.checkpoint import load_checkpoint
from c4c.retrieval.session import RetrieveConfig
from c4c.training.config import TrainHeadConfig

ROOT = Path(__file__).parents[2]
NAMES = [
    *(
        "extract_features",
        "Searcher",
        "Client",
        "train_head",
        "evaluate",
        "load_head",
        "load_backbone",
        "decode_clip",
    ),
    *("Clip", "Cache", "CacheWriter", "C4CError", "__version__"),
]
SMALL: dict[str, Any] = {"head": "seqTransf", "layers": 1, "epochs": 1, "batch": 16}


def test_the_public_names_are_these() -> None:
    assert c4c.__all__ == NAMES
    assert set(NAMES) <= set(dir(c4c))
    for name in NAMES:
        assert getattr(c4c, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'train_haed'"):
        c4c.train_haed  # noqa: B018


def test_no_public_name_is_a_rooms() -> None:
    """Importing ``c4c.extract.…`` binds ``c4c.extract``: a function of that name would be gone."""
    rooms = {path.name for path in (ROOT / "src/c4c").iterdir() if path.is_dir()}
    assert not rooms & set(NAMES)


def test_importing_c4c_imports_nothing_of_weight() -> None:
    """Modules are counted, not milliseconds: benchmarks/imports.py has those."""
    code = "import sys; old = set(sys.modules); import c4c; print(*(set(sys.modules) - old))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"c4c"}


@pytest.mark.parametrize(
    ("function", "settings", "without"),
    [
        ("extract_features", ExtractConfig, {"dataset", "clips"}),
        ("train_head", TrainHeadConfig, {"cache"}),
        ("evaluate", RetrieveConfig, {"cache"}),
    ],
)
def test_keywords_and_defaults_are_those_of_the_settings(
    function: str, settings: Any, without: set[str]
) -> None:
    shown = inspect.signature(getattr(c4c, function)).parameters
    for field in fields(settings):
        if field.name not in without:
            default = shown[field.name].default
            required = default is inspect.Parameter.empty
            assert required or default == field.default


def test_a_folder_a_path_and_clips_give_the_same_features(
    shapes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    videos = sorted((shapes_root / "videos").rglob("*.mp4"))[:2]
    Path("shapes").mkdir()  # a folder that is called like a dataset
    for path in videos:
        Path("shapes", path.name).symlink_to(path)
    settings: dict[str, Any] = {"backbone": "tiny", "workers": 1, "progress": False}
    sources: dict[str, Any] = {"a": "./shapes", "b": Path("shapes"), "c": Path("shapes/../shapes"),
                               "d": [c4c.Clip(path.stem, str(path)) for path in reversed(videos)],
                               "e": videos}  # fmt: skip
    rows = []
    for name in "ad":  # one decoding each; the others are told apart without
        cache = c4c.extract_features(sources[name], cache=name, **settings)
        clips = cache.clips()
        assert clips.ids == tuple(path.stem for path in videos)
        rows.append([clips.read(place)[0].tobytes() for place in range(2)])
    assert rows[0] == rows[1]
    where = __import__("c4c.face.features").face.features._where
    assert {where(sources[name])["dataset"] for name in "abc"} == {"folder"}
    assert [clip.id for clip in where(sources["e"])["clips"]] == list(clips.ids)
    assert where("shapes") == {"dataset": "shapes"}


@pytest.mark.parametrize(
    ("source", "settings", "words"),
    [
        ("vidoes", {}, "neither a folder nor a dataset. Datasets: folder, manifest"),
        (Path("msvd"), {}, "neither a folder nor a dataset"),
        (["a.mp4"], {"root": "x"}, "root is for a dataset's name"),
        (["x/a.mp4", "y/a.mp4"], {}, "clip id 'a'"),
        (["gone.mp4"], {"workers": 1}, "No clip of clips could be extracted .*gone"),
    ],
)
def test_a_source_that_cannot_be_used_is_said(
    source: Any, settings: dict[str, Any], words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(c4c.C4CError, match=words):
        c4c.extract_features(source, backbone="tiny", progress=False, **settings)


def test_a_function_is_the_command_of_its_name(cache: Path) -> None:
    trained = c4c.train_head(cache, out="mine", progress=False, **SMALL)
    words = "train-head --head seqTransf --layers 1 --epochs 1 --batch 16 --out theirs"
    done = CliRunner().invoke(group, words.split())
    line = json.loads(done.stdout)
    assert {key: line[key] for key in trained.metrics} == trained.metrics
    theirs = load_checkpoint(Path("theirs/best")).head.state_dict()
    assert all((value == theirs[name]).all() for name, value in trained.head.state_dict().items())
    found = c4c.evaluate(c4c.Cache.open(cache), checkpoint=trained, split="val", progress=False)
    assert found.metrics["t2v"].r1 == pytest.approx(trained.metrics["t2v_r1"])
    again = c4c.load_head(trained, device="cpu").state_dict()
    assert all((value == theirs[name]).all() for name, value in again.items())


def test_a_setting_that_does_not_exist_is_refused(cache: Path) -> None:
    with pytest.raises(TypeError, match="epocs"):
        c4c.train_head(cache, head="meanP", epocs=3)
    with pytest.raises(c4c.C4CError, match="--epochs is 0"):
        c4c.train_head(cache, head="meanP", epochs=0)


def test_progress_is_shown_silenced_or_handed_over(
    cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[Update] = []
    for place, progress in enumerate((True, False, heard.append)):
        c4c.train_head(cache, out=f"run{place}", progress=progress, **SMALL)
        words = capfd.readouterr().err
        assert bool(words) == (progress is True)
    counted = [one for one in heard if one.total]
    assert counted[-1].done == counted[-1].total
    assert all(one.text for one in heard)


def test_what_a_listener_raises_ends_the_work(cache: Path) -> None:
    class EnoughError(Exception):
        pass

    def listener(update: Update) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        c4c.train_head(cache, progress=listener, **SMALL)


def test_frames_of_a_clip_are_decoded(shapes_root: Path) -> None:
    video = min((shapes_root / "videos").rglob("*.mp4"))
    frames = c4c.decode_clip(video, fps=2.0, max_frames=4)
    assert frames.pixels.shape[0] == 4
    part = c4c.decode_clip(c4c.Clip("part", str(video), start=1.0), fps=2.0, max_frames=1)
    whole = c4c.decode_clip(str(video), fps=2.0)
    assert (part.pixels[0] == whole.pixels[2]).all()
    with pytest.raises(c4c.C4CError, match="nothing.mp4: failed"):
        c4c.decode_clip("nothing.mp4")


def test_every_object_says_what_it_is_in_one_line_with_its_shapes(cache: Path) -> None:
    opened = c4c.Cache.open(cache)
    trained = c4c.train_head(cache, progress=False, **SMALL)
    clips = opened.clips("val")
    shown = {
        repr(opened): "shapes, tiny, clips: test 8, train 48, val 8",
        repr(clips): f"ClipFeatures(8 clips, 64 frames, dim {clips.dim})",
        repr(opened.captions("val")): "CaptionFeatures(",
        repr(clips.batch([0, 1])): f"FeatureBatch(features [2, 8, {clips.dim}] float32, 16 frames)",
        repr(trained): "TrainResult('c4c-runs/seqTransf-shapes/best', ",
        repr(trained.head): f"SeqTransf(dim {opened.dim}, at most ",
        repr(c4c.evaluate(cache, progress=False)): "Evaluation(meanP, ",
        repr(c4c.decode_clip(clips.clips[0])): "Frames(pixels [8, 64, 64, 3] uint8, 0 to 7 s)",
    }
    for text, part in shown.items():
        assert part in text
        assert "\n" not in text
        assert len(text.replace(str(cache), "")) < 120
