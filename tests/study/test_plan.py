"""Plans: whose settings count, and which runs are the same run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from c4c.core.errors import C4CError
from c4c.study.config import StudyConfig
from c4c.study.plan import Run, default_preset, plan_runs, plan_study
from c4c.study.spec import Study, load_study, make_study

TABLE = {
    "settings": {"lr": 0.5, "batch": 7, "epochs": 2},
    "grid": {"head": ["meanP", "seqLSTM"], "batch": [3, 5]},
}


def planned(table: dict[str, Any] | None = None, **changes: Any) -> list[Run]:
    given = {"name": "mine", "datasets": ("shapes",), **changes}
    return plan_runs(make_study("mine", TABLE if table is None else table), StudyConfig(**given))


def test_every_combination_of_the_grid_is_run_seed_by_seed_for_every_dataset() -> None:
    runs = planned(seeds=2, datasets=("shapes", "folder"))
    variants = [(head, batch) for head in ("meanP", "seqLSTM") for batch in (3, 5)]
    assert [(r.seed, r.dataset, r.variant["head"], r.variant["batch"]) for r in runs] == [
        (seed, dataset, *variant)
        for seed in (0, 1)
        for dataset in ("shapes", "folder")
        for variant in variants
    ]


def test_the_users_settings_count_more_than_the_grids_the_studys_and_the_presets() -> None:
    changes = {"lr": 0.25, "epochs": 9, "max_frames": 3}
    for run in planned(settings=changes):
        assert run.settings["batch"] == run.variant["batch"]  # the grid's, not the study's 7
        assert {key: run.settings[key] for key in changes} == changes
    (first, *_) = planned()
    assert (first.settings["lr"], first.settings["epochs"]) == (0.5, 2)  # the study's
    assert first.settings["max_frames"] == 12  # the preset's


def test_a_heads_own_preset_is_laid_over_the_others() -> None:
    runs = {run.variant["head"]: run.settings for run in planned(
        {"grid": {"head": ["seqLSTM", "tightTransf"]}})}  # fmt: skip
    assert (runs["seqLSTM"]["batch"], runs["tightTransf"]["batch"]) == (64, 8)


def test_the_preset_is_the_first_that_knows_the_dataset_or_the_one_named() -> None:
    assert (default_preset("msrvtt"), default_preset("shapes")) == ("paper", "small")
    with pytest.raises(C4CError, match="Unknown dataset 'nothing'"):
        default_preset("nothing")
    table = {"grid": {"head": ["meanP"]}}
    assert planned(table, datasets=("msrvtt",))[0].settings["batch"] == 128
    with pytest.raises(C4CError, match="not for 'shapes'"):
        planned(table, preset="paper")


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"lr": 0.25}},
        {"settings": {"weight_decay": 0.1}},  # what neither the study nor the preset names
        {"backbones": ("tiny",)},
        {"pretrained": "weights.bin"},
        {"select_on": "test"},
        {"cache": Path("other")},
        {"mode": "e2e"},
    ],
    ids=str,
)
def test_a_run_of_other_settings_is_another_run(changes: dict[str, Any]) -> None:
    """Or an earlier result would be found, and told as the answer to another question."""
    before, after = planned(seeds=2), planned(seeds=2, **changes)
    keys = [run.key for run in (*before, *after)]
    assert len(set(keys)) == len(keys) == 16
    assert [run.key for run in planned(seeds=2)] == keys[:8]


def test_another_post_pretraining_is_another_run() -> None:
    grid = {"head": ["meanP"], "post_pretrain": [False, True]}
    short, long = (
        planned({"mode": "e2e", "grid": grid, "pretrain": {"epochs": n}}) for n in (1, 5)
    )
    assert short[0].key == long[0].key  # which begins without it
    assert short[1].key != long[1].key


def test_a_run_of_the_same_settings_is_the_same_run_wherever_they_come_from() -> None:
    grid = {"head": ["meanP"]}
    settings = {"lr": 0.5, "epochs": 30}
    one = planned({"settings": settings, "grid": grid})
    two = planned({"grid": grid}, settings=settings)
    more = planned({"settings": settings, "grid": grid}, seeds=3, devices=("cpu",), part=(1, 2))
    assert one[0].key == two[0].key == more[0].key
    # As an earlier version named it: its finished runs are found.
    assert one[0].key == "shapes_head=meanP_40cce9a2_seed=0"


def test_only_end_to_end_studies_vary_the_backbone() -> None:
    study = load_study("freeze")
    config = StudyConfig(name="freeze", datasets=("shapes",))
    assert [run.settings["freeze_layers"] for run in plan_runs(study, config)] == [0, 6, 9, 11, 12]
    with pytest.raises(C4CError, match="--mode e2e has it"):
        plan_runs(replace(study, mode="cached"), config)


def test_a_study_without_a_head_names_what_is_lacking() -> None:
    study = Study(name="s", question="q", mode="cached", grid={"batch": [3]})
    with pytest.raises(C4CError, match="--set head=NAME"):
        plan_runs(study, StudyConfig(name="s", datasets=("shapes",)))
    config = StudyConfig(name="s", datasets=("shapes",), settings={"head": "meanP"})
    assert plan_runs(study, config)[0].settings["head"] == "meanP"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": 0}, "--seeds is 0"),
        ({"part": (2, 2)}, "parts are counted from 0"),
        ({"part": (-1, 2)}, "parts are counted from 0"),
        ({"datasets": ("a", "b"), "root": Path("x")}, "for one --dataset"),
        ({"datasets": ("a", "b"), "cache": Path("x")}, "for one --dataset"),
    ],
)
def test_what_a_study_cannot_be_told_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(C4CError, match=words):
        StudyConfig(**{"name": "s", "datasets": ("shapes",), **changes})


def test_a_device_that_does_not_exist_is_refused_before_anything_is_planned() -> None:
    config = StudyConfig(name="heads", datasets=("shapes",), devices=("cpu", "cuda:77"))
    with pytest.raises(C4CError, match="cuda:77"):
        plan_study(config)


def test_a_study_that_trains_nothing_takes_no_head() -> None:
    config = StudyConfig(name="zero-shot", datasets=("shapes",), settings={"head": "seqLSTM"})
    with pytest.raises(C4CError, match="trains no head"):
        plan_study(config)
    assert plan_study(replace(config, settings={}))[2]
