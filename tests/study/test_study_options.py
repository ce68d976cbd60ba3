"""What the options of ``c4c study`` do, through the command itself, on a study of one run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.core import presets
from c4c.core.errors import C4CError
from c4c.extract import part as work
from c4c.extract.backbone.load import load_backbone


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a study of one training of one epoch."""
    monkeypatch.chdir(tmp_path)
    settings = 'settings = { epochs = 1, batch = 16, layers = 1 }\n[grid]\nhead = ["seqTransf"]\n'
    (tmp_path / "one.toml").write_text(settings)
    return tmp_path


def study(*args: str) -> list[dict[str, Any]]:
    """The results of the runs, as the study keeps them."""
    done = CliRunner().invoke(group, ["study", "one.toml", *args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return [json.loads(path.read_text()) for path in sorted(Path().rglob("runs/*/result.json"))]


@pytest.mark.shows("study", "--dataset", "--root", "--cache", "--out", "--mode")
def test_a_study_reads_and_writes_where_it_is_told(
    here: Path, shapes_root: Path, shapes_cache: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in shapes_cache.rglob("*.h5")}
    own = ("--dataset", "shapes", "--root", str(shapes_root), "--cache", str(shapes_cache))
    (run,) = study(*own, "--out", "elsewhere")
    assert run["evaluation"]["source"]["cache"] == str(shapes_cache)
    assert {path.name for path in here.iterdir()} == {"one.toml", "elsewhere"}
    assert before == {path: path.stat().st_mtime_ns for path in shapes_cache.rglob("*.h5")}
    _, both = sorted(
        study(*own, "--out", "other", "--mode", "e2e", "--workers", "1"),
        key=lambda one: one["mode"],
    )
    assert (run["mode"], both["mode"]) == ("cached", "e2e")
    assert both["evaluation"]["source"]["weights"] != run["evaluation"]["source"]["weights"]


@pytest.mark.shows("study", "--videos", "--captions", "--backbone", "--pretrained", "--workers")
def test_a_study_of_somebodys_own_videos(
    here: Path,
    shapes_root: Path,
    decoders: Callable[[], list[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["video,caption,split"]
    for split, count in (("train", 16), ("test", 4)):
        videos = sorted((shapes_root / "videos").rglob(f"{split}-*.mp4"))[:count]
        lines += [f"{path.name},a film {path.stem},{split}" for path in videos]
    (here / "list.csv").write_text("\n".join(lines) + "\n")
    counts = []
    decode = work.decode_pieces

    def counting(*args: Any) -> Any:
        for part in decode(*args):
            counts.append(len(decoders()))
            yield part

    monkeypatch.setattr(work, "decode_pieces", counting)
    (run,) = study(
        "--dataset", "manifest", "--root", ".", "--videos", str(shapes_root / "videos"),
        "--captions", "list.csv", "--backbone", "tiny", "--pretrained", "none", "--workers", "1",
    )  # fmt: skip
    source = run["evaluation"]["source"]
    assert (source["dataset"], source["split"], source["model"]) == ("manifest", "test", "tiny")
    assert source["weights"] != load_backbone("tiny").sha256
    assert run["evaluation"]["metrics"]["t2v"]["gallery"] == 4
    assert max(counts) == 1


@pytest.mark.shows("study", "--preset")
def test_a_study_starts_from_its_preset(
    here: Path, shapes_root: Path, shapes_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"train-head": {"max_frames": 3, "epochs": 9}, "extract": {"backbone": "tiny"}}
    known = {**presets.load_presets(), "mine": {"any": own, "shapes": {}}}
    monkeypatch.setattr(presets, "load_presets", lambda: known)
    place = ("--dataset", "shapes", "--root", str(shapes_root), "--cache", str(shapes_cache))
    (run,) = study(*place, "--preset", "mine")
    assert run["evaluation"]["view"]["max_frames"] == 3
    assert run["settings"]["epochs"] == 1  # the study's own count more
    with pytest.raises(C4CError, match="Preset 'paper' is not for 'shapes'"):
        study(*place, "--preset", "paper")


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ("howto100m", "none is for 'howto100m': paper for msrvtt, .*small for shapes"),
        ("lsmcd", "Unknown dataset 'lsmcd'; did you mean 'lsmdc'"),
    ],
)
def test_a_dataset_that_no_preset_is_for_is_one_line(dataset: str, words: str, here: Path) -> None:
    with pytest.raises(C4CError, match=words):
        study("--dataset", dataset)
