"""Presets name real options, fill what was not given, and are refused in one line."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from c4c.cli.app import COMMANDS
from c4c.cli.presets import preset_option
from c4c.core.errors import C4CError
from c4c.core.presets import load_presets, preset
from c4c.extract.datasets import DATASETS
from c4c.heads import HEADS

PRESETS = [
    (name, dataset)
    for name, tables in load_presets().items()
    for dataset in tables
    if dataset != "any"
]


@pytest.mark.parametrize(("name", "dataset"), PRESETS)
@pytest.mark.parametrize("command", ["extract", "train-head", "train-e2e", "retrieve"])
def test_every_setting_is_an_option_of_its_command(name: str, dataset: str, command: str) -> None:
    assert dataset in DATASETS
    options = {option.name for option in COMMANDS[command].params}
    for head in HEADS:
        assert set(preset(name, dataset, command, head)) <= options


def test_the_paper_has_more_frames_and_words_for_paragraphs() -> None:
    assert preset("paper", "lsmdc", "train-e2e")["max_frames"] == 12
    assert preset("paper", "activitynet", "train-e2e")["max_frames"] == 64
    assert preset("paper", "didemo", "extract")["max_words"] == 64


def test_what_the_user_gives_counts_more() -> None:
    seen: dict[str, Any] = {}

    @click.command()
    @preset_option("train-head")
    @click.option("--dataset")
    @click.option("--head")
    @click.option("--batch", default=1)
    @click.option("--epochs", default=1)
    @click.option("--lr", default=1.0)
    @click.option("--max-frames", default=1)
    def command(**options: Any) -> None:
        seen.update(options)

    args = ["--preset", "small", "--dataset", "shapes", "--head", "tightTransf", "--batch", "7"]
    done = CliRunner().invoke(command, args, default_map={"lr": 0.5}, catch_exceptions=False)
    assert done.exit_code == 0
    assert (seen["batch"], seen["epochs"], seen["lr"], seen["max_frames"]) == (7, 3, 0.5, 12)


@pytest.mark.parametrize(
    ("name", "dataset", "words"),
    [("best", "lsmdc", "Known: paper"), ("paper", "shapes", "paper for msrvtt, msvd")],
)
def test_what_is_not_there_is_said(name: str, dataset: str, words: str) -> None:
    with pytest.raises(C4CError, match=words):
        preset(name, dataset, "extract")


def test_a_head_keeps_its_own_settings_where_a_dataset_has_some() -> None:
    shapes, others = (preset("small", name, "train-head", "tightTransf") for name in
                      ("shapes", "folder"))  # fmt: skip
    assert shapes["epochs"] < others["epochs"]
    assert (shapes["batch"], shapes["lr"]) == (others["batch"], others["lr"])
    assert preset("small", "shapes", "train-head", "seqLSTM")["batch"] > shapes["batch"]
