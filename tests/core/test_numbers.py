"""Every numeric option of every command: a number that cannot be is one line, any other works."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from c4c.cli.app import COMMANDS
from c4c.core.errors import C4CError
from c4c.core.limits import require_within

VALUES = ["-1", "0", str(2**70), "nan", "inf", "-inf", "1e400", "x", "", "²", "9" * 5000]
PARTS = ["-1", "0", "1/0", "1/1", "x/y", f"{2**70}/1", "0/" + "9" * 5000, "²/³", "0/1/2"]


def numeric(kind: click.ParamType) -> bool:
    return isinstance(kind, click.types.IntParamType | click.types.FloatParamType)


def options() -> Iterator[tuple[str, str, list[str]]]:
    """(command, option, values to try) of every option that takes a number or i/n."""

    def walk(path: str, command: click.Command) -> Iterator[tuple[str, str, list[str]]]:
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from walk(f"{path} {name}", inner)
            return
        for option in command.params:
            if numeric(option.type):
                yield path, option.opts[0], VALUES
            elif option.type.name == "i/n":
                yield path, option.opts[0], PARTS

    for name in COMMANDS:
        yield from walk(name, COMMANDS[name])


def quick(command: str, option: str) -> bool:
    """Whether what is accepted is also done: the demo takes minutes, and training end to end
    has most of its options from the training of heads."""
    shared = {one.opts[0] for one in COMMANDS["train-head"].params}
    if command in ("demo", "serve"):  # a server runs until it is stopped
        return False
    return not (command == "train-e2e" and option in shared)


OPTIONS = list(options())


def test_the_options_are_found() -> None:
    commands = {command for command, _, _ in OPTIONS}
    assert {"extract", "train-head", "train-e2e", "retrieve", "study", "compare", "demo"} < commands
    assert {"cache compact", "dataset make shapes"} < commands
    assert len(OPTIONS) > 50


GRID = 'question = "q"\n[settings]\nhead = "meanP"\nepochs = 1\n[grid]\nmax_frames = [4]\n'


@pytest.fixture
def given(
    small_root: Path, small_cache: Path, tmp_path: Path, c4c: Any, frames: Path
) -> dict[str, list[str]]:
    """What else each command needs, so that it does its work in a second or two."""
    data = ["--dataset", "shapes", "--root", str(small_root), "--backbone", "tiny"]
    cache = ["--cache", str(small_cache)]
    two = ["--train", "2", "--val", "0", "--test", "0"]
    train = ["--epochs", "1", "--batch", "8", "--out", str(tmp_path / "run"), "--device", "cpu"]
    shutil.copytree(small_cache, tmp_path / "copy")
    (tmp_path / "grid.toml").write_text(GRID)
    return {
        "extract": [*data, "--cache", str(tmp_path / "cache"), "--split", "val", "--workers", "1"],
        "train-head": ["--head", "seqLSTM", *cache, *train],
        "train-e2e": ["--head", "meanP", *data, *train, "--frame-cache", str(frames),
                      "--eval-split", "none", "--workers", "1"],
        "retrieve": ["a red circle", *cache],
        "index": [str(tmp_path / "copy")],
        "study": [str(tmp_path / "grid.toml"), *data, *cache, "--out", str(tmp_path / "study")],
        "compare": [str(frames / "a.json"), str(frames / "a.json")],
        "demo": ["--out", str(tmp_path / "demo")],
        "cache compact": [str(tmp_path / "copy")],
        "dataset make shapes": ["--root", str(tmp_path / "made"), *two],
        "dataset make shapes-unseen": ["--root", str(tmp_path / "made"), *two],
        "dataset make shapes-moments": ["--root", str(tmp_path / "made"), "--videos", "1"],
        "backbones": ["tiny"],
        "serve": [str(small_cache)],
    }  # fmt: skip


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory, small_cache: Path) -> Path:
    """A frame cache for all trainings, with a file of results beside it."""
    from c4c.core.files import write_json
    from c4c.retrieval.session import RetrieveConfig, run_evaluate

    folder = tmp_path_factory.mktemp("frames")
    write_json(folder / "a.json", run_evaluate(RetrieveConfig(cache=small_cache)).as_dict())
    return folder


@pytest.mark.parametrize(
    ("command", "option", "values"),
    OPTIONS,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_number_is_refused_in_a_line_or_works(
    command: str, option: str, values: list[str], given: dict[str, list[str]], c4c: Any,
    tmp_path: Path,
) -> None:  # fmt: skip
    for value in values:
        if not quick(command, option) and value not in ("-1", "nan", "-inf", "x"):
            continue
        for made in ("run", "made"):
            shutil.rmtree(tmp_path / made, ignore_errors=True)
        done = c4c(*command.split(), *given[command], option, value)
        lines = [line for line in done.err.splitlines() if line.startswith("c4c: ")]
        if done.code:
            assert (done.code, len(lines)) == (2, 1), (value, done)
            assert len(done.err) < 8000
            assert option in lines[0], (value, done.err)
        else:
            assert not lines, (value, done.err)
        plain = value in ("-1", "0") or "/" in value
        clipping = option == "--clip-norm"  # by any norm, however large
        assert done.code or plain or clipping, f"{option} {value} was accepted"


@pytest.mark.parametrize("value", [-1, 4.5, float("nan"), float("inf"), "2", None, [3]])
def test_a_range_holds_for_numbers_only(value: Any) -> None:
    if value is None:
        require_within("some_number", value, 0, 4)
        return
    with pytest.raises(C4CError, match="--some-number is .* expected a number from 0 to 4"):
        require_within("some_number", value, 0, 4)


def test_seeds_up_to_the_largest_train_the_same_again(
    small_cache: Path, c4c: Any, tmp_path: Path
) -> None:
    for seed in ("123456789012", str(2**63 - 1)):
        runs = [
            c4c("train-head", "--head", "seqLSTM", "--cache", str(small_cache), "--epochs", "1",
                "--batch", "8", "--seed", seed, "--out", str(tmp_path / f"{seed}-{number}"))
            for number in range(2)
        ]  # fmt: skip
        assert [run.code for run in runs] == [0, 0]
        heads = [tmp_path / f"{seed}-{n}/last/head.safetensors" for n in range(2)]
        assert heads[0].read_bytes() == heads[1].read_bytes()
