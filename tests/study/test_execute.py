"""What a study hands to extraction, training and evaluation."""

from pathlib import Path
from typing import Any

import pytest

from c4c.study.config import StudyConfig
from c4c.study.data import extraction, named_backbone, needed_splits, splits_of
from c4c.study.execute import Job, _training, study_folder
from c4c.study.plan import plan_runs
from c4c.study.spec import make_study

STUDY = make_study("mine", {"grid": {"head": ["meanP"]}})


def config(**changes: Any) -> StudyConfig:
    given = {"name": "mine", "datasets": ("shapes",), "root": Path("/data/shapes"), **changes}
    return StudyConfig(**given)


def test_a_dataset_is_extracted_by_its_preset_where_everyone_looks_for_it() -> None:
    found = extraction(config(), "shapes")
    assert (found.dataset, found.root) == ("shapes", Path("/data/shapes"))
    assert (found.backbone, found.pretrained) == ("tiny", None)  # the preset's
    assert found.cache == Path("c4c-cache/shapes")
    assert found.splits == ()  # the runs say which they need
    assert (found.device, found.workers) == (None, 0)
    assert extraction(config(datasets=("msrvtt",)), "msrvtt").max_words == 32


def test_what_the_user_names_counts_more_than_the_preset() -> None:
    named = {"backbones": ("ViT-B-16",), "pretrained": "w.bin", "cache": Path("c"), "workers": 3}
    found = extraction(config(**named, videos=Path("v"), devices=("cuda:1", "cpu")), "shapes")
    assert (found.backbone, found.pretrained, found.cache) == ("ViT-B-16", "w.bin", Path("c"))
    assert (found.workers, found.videos, found.device) == (3, Path("v"), "cuda:1")


def test_a_checkpoint_that_a_run_goes_on_from_brings_its_ownnamed_backbone() -> None:
    named = config(backbones=("ViT-B-16",), pretrained="w.bin")
    assert named_backbone(named, {"backbone": "tiny", "lr": 1.0}) == {
        "backbone": "ViT-B-16", "pretrained": "w.bin", "lr": 1.0,
    }  # fmt: skip
    post_pretrained = named_backbone(named, {"pretrained": "c4c-studies/mine/pretrain/best"})
    assert post_pretrained["pretrained"] == "c4c-studies/mine/pretrain/best"
    assert named_backbone(config(), {"lr": 1.0}) == {"lr": 1.0}


def test_every_run_trains_in_its_own_folder_with_its_own_seed() -> None:
    settings = config(seeds=2, out=Path("here"))
    jobs = [Job(run, STUDY, settings, "cpu") for run in plan_runs(STUDY, settings)]
    told = [_training(job) for job in jobs]
    assert [one["seed"] for one in told] == [0, 1]
    assert [one["out"] for one in told] == [job.folder / "train" for job in jobs]
    assert len({job.folder for job in jobs}) == 2
    assert all(job.folder.parent == Path("here/runs") for job in jobs)
    assert {one["resume"] for one in told} == {"auto"}
    assert {one["device"] for one in told} == {"cpu"}
    assert study_folder(STUDY, config()) == Path("c4c-studies/mine")


@pytest.mark.parametrize(
    ("splits", "reported"), [(("train", "val", "test"), "test"), (("train", "val"), "val")]
)
def test_figures_are_of_the_test_split_or_of_val_where_there_is_none(
    splits: tuple[str, ...], reported: str, tmp_path: Path
) -> None:
    lines = ["video,caption,split", *(f"{split}.mp4,words,{split}" for split in splits)]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    own = config(datasets=("manifest",), root=tmp_path, captions=tmp_path / "list.csv")
    (run, *_) = plan_runs(STUDY, own)
    assert splits_of(own, run).report == reported
    assert set(needed_splits(own, "manifest", [run])) == set(splits)
