"""Studies: read, planned, run for real on little shapes, resumed, and told without overstating."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from c4c.cli.app import COMMANDS
from c4c.cli.commands.study import setting
from c4c.core.errors import C4CError
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.heads.checkpoint import load_checkpoint
from c4c.study.config import StudyConfig
from c4c.study.execute import Job
from c4c.study.paper import published
from c4c.study.plan import plan_runs
from c4c.study.report import html_page, markdown, verdicts
from c4c.study.result import revision
from c4c.study.run import as_csv
from c4c.study.spec import Study, built_in, load_study, make_study
from c4c.study.summary import label, summarise_runs

HEADS = load_study("heads")


@pytest.mark.parametrize("name", built_in())
def test_every_built_in_study_can_be_planned(name: str) -> None:
    study = load_study(name)
    runs = plan_runs(study, StudyConfig(name=name, datasets=("shapes",), seeds=2))
    assert len(runs) == 2 * len(study.variants())
    assert len({run.key for run in runs}) == len(runs)
    assert name in COMMANDS["study"].help


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"grid": {"head": ["meanP"]}, "colour": 1}, "unknown key 'colour'"),
        ({}, "has no 'grid'"),
        ({"grid": {}}, "is empty"),
        ({"grid": {"head": []}}, "is empty"),
        ({"grid": {"head": "meanP"}}, "grid.head is 'meanP', expected a list"),
        ({"grid": ["head"]}, "grid is a list, expected an object"),
        ({"grid": {"head": ["meanP"]}, "mode": "fast"}, "expected cached, e2e, zero-shot"),
        ({"grid": {"head": ["meanP"]}, "mode": 3}, "mode is 3, expected a text"),
        ({"grid": {f"a{i}": [1, 2, 3] for i in range(40)}}, "more than 10000"),
        ({"grid": {"head": ["meanP"]}, "settings": {"lr": float("inf")}}, "settings.lr is inf"),
        ({"grid": {"head": ["meanP"]}, "baseline": {"head": "other"}}, "no variant"),
    ],
)
def test_a_study_that_cannot_be_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(C4CError, match=words):
        make_study("mine", table)


def test_a_setting_that_the_training_lacks_is_refused() -> None:
    for settings, words in (
        ({"coulour": 1}, "coulour"),
        ({"freeze_layers": 6}, "--mode e2e"),
        ({"head": "meanP"}, "varies head itself"),
        ({"epochs": "many"}, "epochs is 'many', expected a whole number"),
        ({"batch": 2.5}, "batch is 2.5"),
        ({"init_head": 5}, "init_head is 5, expected a text or null"),
        ({"eval_split": "test"}, "no setting 'eval_split' .*; pass --select-on SPLIT"),
        ({"device": "cpu"}, "no setting 'device' .*; pass --device"),
        ({"root": "/data"}, "no setting 'root' .*; pass --root"),
    ):
        config = StudyConfig(name="heads", datasets=("shapes",), settings=settings)
        with pytest.raises(C4CError, match=words):
            plan_runs(HEADS, config)
    table = {"mode": "e2e", "grid": {"head": ["meanP"]}, "pretrain": {"flavour": "x"}}
    with pytest.raises(C4CError, match="flavour"):
        plan_runs(make_study("mine", table), StudyConfig(name="mine", datasets=("shapes",)))
    with pytest.raises(C4CError, match="neither a file nor"):
        load_study("nothing")


@pytest.mark.parametrize(
    ("text", "value"), [("a=2", 2), ("a=1e-4", 1e-4), ("a-b=true", True), ("a=meanP", "meanP")]
)
def test_set_takes_values_as_toml_or_as_words(text: str, value: Any) -> None:
    assert setting(text) == (text.split("=")[0].replace("-", "_"), value)
    with pytest.raises(C4CError, match="KEY=VALUE"):
        setting("epochs")


FIGURES = {"r1": 12.34, "r5": 40.0, "r10": 60.0, "median_rank": 7.0, "mean_rank": 9.5}


def result(head: str, seed: int, ranks: list[float], wins: list[float]) -> dict[str, Any]:
    """A run's result with made-up ranks; clips 2i and 2i+1 are twins."""
    rows = [
        {
            "caption": f"c{i}", "clip": f"v{i:03}", "twin": f"v{i ^ 1:03}", "text": "t",
            "rank": rank, "ties": 1, "before_twin": win,
        }
        for i, (rank, win) in enumerate(zip(ranks, wins, strict=True))
    ]  # fmt: skip
    there = {"gallery": len(rows), "gallery_expected": len(rows) + 3, **FIGURES}
    back = [{"clip": row["clip"], "rank": row["rank"], "ties": 1} for row in rows]
    return {
        "dataset": "shapes", "variant": {"head": head}, "seed": seed, "mode": "cached",
        "revision": "", "version": "1", "settings": {"head": head}, "seconds": 60.0,
        "evaluation": {
            "schema": 1, "head": head, "queries": {"t2v": rows, "v2t": back},
            "metrics": {"t2v": there, "v2t": there}, "notes": ["not comparable: some gone"],
            "source": {"model": "tiny", "split": "test", "chosen_on": "val"},
        },
    }  # fmt: skip


def made_up() -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    coin = (generator.random(100) < 0.5).astype(float).tolist()
    sure = (generator.random(100) < 0.9).astype(float).tolist()
    return [
        result("meanP", 0, [1.0 + (won == 0) for won in coin], coin),
        result("meanP", 1, [1.0 + (won == 0) for won in coin], coin),
        result("seqLSTM", 0, [1.0 + (won == 0) for won in sure], sure),
        result("seqLSTM", 1, [2.0] * 100, sure),
    ]


def test_figures_are_means_over_seeds_with_what_differs_from_the_baseline() -> None:
    mean, lstm = summarise_runs(HEADS, made_up())
    assert (mean.label, mean.seeds, mean.gallery) == ("meanP", 2, (100, 103))
    own = lstm.figures["t2v_r1"]
    share = made_up()[2]["evaluation"]["queries"]["t2v"]
    first = sum(row["rank"] == 1 for row in share)
    assert own.interval.value == pytest.approx(first / 2)
    assert own.deviation == pytest.approx(first / np.sqrt(2))
    assert own.interval.low < own.interval.value < own.interval.high
    assert own.change is not None
    assert own.change.value == pytest.approx(
        own.interval.value - mean.figures["t2v_r1"].interval.value
    )
    assert mean.figures["t2v_r1"].change is None


def test_only_what_is_sure_is_said_to_see_order() -> None:
    variants = summarise_runs(HEADS, made_up())
    said = " ".join(verdicts(HEADS, variants))
    assert "meanP is not shown to see order" in said
    assert "seqLSTM sees order" in said


def test_a_head_worse_than_chance_does_not_see_order() -> None:
    (only,) = summarise_runs(HEADS, [result("meanP", 0, [2.0] * 40, [0.0] * 40)])
    assert only.order is not None
    assert only.order.p < 0.01
    assert not only.sees_order


def test_runs_on_other_queries_are_not_averaged() -> None:
    runs = [result("meanP", 0, [1.0] * 4, [1.0] * 4), result("meanP", 1, [1.0] * 6, [1.0] * 6)]
    with pytest.raises(C4CError, match="different queries"):
        summarise_runs(HEADS, runs)


def test_the_report_carries_notes_missing_clips_and_published_figures() -> None:
    runs = made_up()
    text = markdown(HEADS, summarise_runs(HEADS, runs), runs, wanted=9)
    assert "100 of 103" in text
    assert "not comparable: some gone" in text
    assert "5 runs are still to be done" in text
    assert "CLIP4Clip" not in text
    for run in runs:
        run["dataset"] = "lsmdc"
    variants = summarise_runs(HEADS, runs)
    (line,) = published(HEADS, variants)
    assert (line.dataset, line.method) == ("lsmdc", "seqLSTM (LSMDC)")
    assert line.cells == ("21.6", "41.8", "49.8", "–", "58.0", *["–"] * 5)
    assert line.source == "CLIP4Clip (arXiv 2104.08860), ViT-B/32, as quoted by later papers"
    assert line.source in markdown(HEADS, variants, runs, 4)
    page = html_page(HEADS, variants, runs, 4)
    assert page.count("<svg") == 2
    assert line.source in page
    assert "src=" not in page


def test_published_figures_are_of_the_split_that_was_trained_on() -> None:
    runs = made_up()
    for run in runs:
        run["dataset"] = "msrvtt"
    for split, recall in (("train", "43.1"), ("train-7k", "42.1"), ("train-8.5k", None)):
        for run in runs:
            run["settings"] = {**run["variant"], "train_split": split}
        found = published(HEADS, summarise_runs(HEADS, runs), runs)
        assert [line.cells[0] for line in found] == ([recall] if recall else [])


def test_figures_of_other_models_stand_once_and_say_so() -> None:
    runs = made_up()
    for run in runs:
        run["dataset"] = "vatex"
    found = published(HEADS, summarise_runs(HEADS, runs), runs)
    assert [(line.method, line.cells[0], line.source) for line in found] == [
        ("CLIP2Video", "57.3", "arXiv 2106.11097, as listed with the paper"),
        ("TS2-Net", "59.1", "arXiv 2207.07852, as listed with the paper"),
    ]


def test_the_tables_of_the_page_fit_on_a_screen_of_1300_pixels() -> None:
    """Their columns are as wide as their longest line: 9 px a letter at most, 20 px around it."""
    runs = made_up()
    page = html_page(HEADS, summarise_runs(HEADS, runs), runs, 4)
    width = 16 * int(re.search(r"max-width: (\d+)rem", page).group(1)) - 40
    tables = re.findall("<table>(.*?)</table>", page, re.S)
    assert [len(re.findall("<th>", table)) for table in tables] == [10, 11, 12]
    for table in tables:
        rows = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in table.split("<tr>")[1:]]
        lines = [[re.sub("</?small>", "", cell).split("<br>") for cell in row] for row in rows]
        columns = zip(*lines, strict=True)
        longest = [max(len(line) for cell in column for line in cell) for column in columns]
        assert sum(9 * letters + 20 for letters in longest) < width < 1260


def test_labels_and_csv() -> None:
    assert label({"head": "meanP"}) == "meanP"
    assert label({"batch": 3, "head": "meanP"}) == "batch 3, head meanP"
    assert as_csv([{"a": 1}, {"a": "x,y", "b": None}]) == 'a,b\n1,\n"x,y",\n'


def test_the_key_of_a_run_is_a_plain_name() -> None:
    study = Study(name="s", question="q", mode="cached", grid={"head": ["../meanP"]})
    config = StudyConfig(name="s", datasets=("shapes",))
    (run,) = plan_runs(study, config)
    assert "/" not in run.key
    assert Job(run, study, config, None).result.name == "result.json"
    assert revision() == "" or len(revision()) == 12


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("study")
    make_shapes(here / "c4c-data/shapes", Recipe(seed=5, train=32, val=8, test=8))
    return here


def study(*args: str) -> Any:
    return CliRunner().invoke(COMMANDS["study"], args, catch_exceptions=False)


def trainings(folder: Path) -> list[dict[str, Any]]:
    """The settings that each run was really trained with; its result names the same seed."""
    found = []
    for path in folder.glob("runs/*/result.json"):
        held = json.loads((path.parent / "train/best/checkpoint.json").read_text())["config"]
        assert json.loads(path.read_text())["seed"] == held["seed"]
        found.append(held)
    return found


@pytest.mark.shows("study", "--seeds", "--device", "--slice")
def test_a_study_runs_in_parts_on_two_devices_and_is_not_run_twice(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    (workplace / "mine.toml").write_text(
        'question = "Two heads?"\nbaseline = { head = "meanP" }\n'
        '[settings]\nepochs = 1\nbatch = 16\n[grid]\nhead = ["meanP", "seqLSTM"]\n'
    )
    args = ["mine.toml", "--dataset", "shapes", "--seeds", "2", "--workers", "1"]
    devices = ["--device", "cpu", "--device", "cpu"]
    assert study(*args, "--slice", "0/2").exit_code == 0  # both seeds of meanP
    folder = workplace / "c4c-studies/mine"
    assert len(list((folder / "runs").glob("*/result.json"))) == 2
    done = study(*args, *devices)
    assert done.exit_code == 0
    assert "seqLSTM" in done.stdout
    with (folder / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["head"], row["seed"]) for row in rows] == [
        ("meanP", "0"), ("seqLSTM", "0"), ("meanP", "1"), ("seqLSTM", "1"),
    ]  # fmt: skip
    assert {row["chosen_on"] for row in rows} == {"val"}
    trained = trainings(folder)
    assert sorted((one["head"], one["seed"]) for one in trained) == [
        ("meanP", 0), ("meanP", 1), ("seqLSTM", 0), ("seqLSTM", 1),
    ]  # fmt: skip
    assert {one["epochs"] for one in trained} == {1}
    heads = [load_checkpoint(path).head for path in folder.glob("runs/*seqLSTM*/train/best")]
    assert not torch.equal(heads[0].lstm.weight_hh_l0, heads[1].lstm.weight_hh_l0)  # type: ignore[union-attr]
    lines = (folder / "runs.jsonl").read_text().splitlines()
    assert [json.loads(line)["head"] for line in lines] == [row["head"] for row in rows]
    before = [path.stat().st_mtime_ns for path in sorted(folder.glob("runs/*/result.json"))]
    assert study(*args).exit_code == 0
    assert [p.stat().st_mtime_ns for p in sorted(folder.glob("runs/*/result.json"))] == before


@pytest.mark.shows("study", "--select-on", "--set")
def test_the_best_epoch_may_be_chosen_on_test_and_then_the_result_says_so(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    done = study(
        "sampling", "--dataset", "shapes", "--select-on", "test", "--workers", "1",
        "--set", "head=seqLSTM", "--set", "epochs=1",
    )  # fmt: skip
    assert done.exit_code == 0
    report = (workplace / "c4c-studies/sampling/report.md").read_text()
    assert "chosen on this very split (test)" in report


def test_an_end_to_end_study_trains_the_backbone(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    (workplace / "both.toml").write_text(
        'mode = "e2e"\nsettings = { head = "meanP", epochs = 1, batch = 16 }\n'
        "[grid]\npost_pretrain = [false, true]\n"
        '[pretrain]\ndataset = "shapes"\nepochs = 1\nbatch = 16\neval_split = "none"\n'
    )
    done = study("both.toml", "--dataset", "shapes", "--backbone", "tiny")
    assert done.exit_code == 0
    rows = (workplace / "c4c-studies/both/runs.jsonl").read_text().splitlines()
    weights = [json.loads(row)["weights"] for row in rows]
    assert len(set(weights)) == 2
