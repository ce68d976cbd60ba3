"""A run folder that was damaged: resuming names the value, and never goes on from it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from c4c.core.errors import C4CError
from c4c.core.schema import sealed
from c4c.training.cached import train_head
from c4c.training.config import TrainHeadConfig
from c4c.training.journal import read_journal


def config(cache: Path, out: Path, **changes: Any) -> TrainHeadConfig:
    settings = {"head": "seqTransf", "layers": 1, "epochs": 1, "batch": 16, **changes}
    return TrainHeadConfig(cache=cache, out=out, **settings)


@pytest.fixture(scope="module")
def made(shapes_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    train_head(config(shapes_cache, out))
    return out


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def edit(run: Path, **changes: Any) -> None:
    """Change what the last checkpoint says of itself, with a checksum that agrees."""
    path = run / "last/checkpoint.json"
    path.write_text(json.dumps(sealed({**json.loads(path.read_text()), **changes})))


def position(run: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((run / "last/checkpoint.json").read_text())["position"]
    return held


def resume(cache: Path, run: Path) -> str:
    with pytest.raises(C4CError) as caught:
        train_head(config(cache, run, resume="auto"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_that_is_whole_goes_on(shapes_cache: Path, run: Path) -> None:
    assert train_head(config(shapes_cache, run, resume="auto")).steps == position(run)["step"]
    edit(run, position={**position(run), "best": None, "best_figures": {}})
    assert train_head(config(shapes_cache, run, resume="auto")).metrics == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": -1}, "position.epoch is -1, expected a number from 0 on"),
        ({"epoch": "1"}, "position.epoch is '1', expected a whole number"),
        ({"epoch": 7}, "stands at epoch 7, batch 0, which this run does not have"),
        ({"epoch": 0, "batch": 99}, "stands at epoch 0, batch 99"),
        ({"batch": 1}, "stands at epoch 1, batch 1"),
        ({"step": None}, "position.step is null"),
        ({"step": 2**70}, "position.step is 1180591620717411303424"),
        ({"best": "high"}, "position.best is 'high', expected a number or null"),
        ({"best_figures": {"t2v_r1": None}}, "position.best_figures.t2v_r1 is null"),
    ],
)
def test_a_position_that_cannot_be_is_named(
    shapes_cache: Path, run: Path, change: dict[str, Any], words: str
) -> None:
    edit(run, position={**position(run), **change})
    assert words in resume(shapes_cache, run)


@pytest.mark.parametrize("value", [None, [], 3, "x"])
def test_a_position_of_another_type_is_named(shapes_cache: Path, run: Path, value: Any) -> None:
    edit(run, position=value)
    assert "position is" in resume(shapes_cache, run)


def no_generator(state: dict[str, Any]) -> None:
    del state["rng"]


def short_generator(state: dict[str, Any]) -> None:
    state["rng"] = state["rng"][:7]


def other_shape(state: dict[str, Any]) -> None:
    name = next(name for name in state if name.endswith("exp_avg"))
    state[name] = state[name].reshape(1, -1)


def whole_numbers(state: dict[str, Any]) -> None:
    name = next(name for name in state if name.endswith("exp_avg_sq"))
    state[name] = state[name].long()


def lost_moment(state: dict[str, Any]) -> None:
    del state[next(name for name in state if name.endswith("exp_avg"))]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_generator, "random generators"),
        (short_generator, "random generators"),
        (other_shape, "does not fit this run"),
        (whole_numbers, "does not fit this run"),
        (lost_moment, "does not fit this run"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    shapes_cache: Path, run: Path, spoil: Any, words: str
) -> None:
    state = load_file(run / "last/state.safetensors")
    spoil(state)
    save_file(state, run / "last/state.safetensors")
    assert "differs from its checksum" in resume(shapes_cache, run)
    edit(run, files={})
    assert words in resume(shapes_cache, run)


def test_the_head_of_another_run_is_refused(shapes_cache: Path, run: Path, tmp_path: Path) -> None:
    """The settings say the same, but the head in the file has more positions."""
    other = load_file(run / "last/head.safetensors")
    other["frame_position_embeddings.weight"] = torch.zeros(3, 3)
    save_file(other, run / "last/head.safetensors")
    edit(run, files={})
    assert "does not hold what it says" in resume(shapes_cache, run)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "is a list, expected an object"),
        ("{}", "has no 'step'"),
        ('{"step": "3"}', "step is '3', expected a whole number"),
        ('{"step": -1}', "step is -1"),
        ('{"step": 1, "epoch": null}', "epoch is null"),
        ('{"step": 1, "step": 2}', "duplicate key 'step'"),
        ('{"step": 1, "loss": NaN}', "it holds NaN"),
        ("\xff", "is not JSON"),
    ],
)
def test_a_damaged_line_of_the_log_is_named(run: Path, line: str, words: str) -> None:
    path = run / "log.jsonl"
    first = path.read_text().splitlines()[0]
    path.write_text(f"{first}\n{line}\n{first}\n", encoding="utf-8")
    with pytest.raises(C4CError, match="log.jsonl: line 2|log.jsonl line 2") as caught:
        read_journal(path)
    assert words in str(caught.value)


@pytest.mark.parametrize("end", [b'{"step": 9, "lo', b"{", b"\0\0\0", b"\xc3"])
def test_the_line_that_a_crash_cut_short_is_left_out(run: Path, end: bytes) -> None:
    path = run / "log.jsonl"
    before = read_journal(path)
    assert before
    path.write_bytes(path.read_bytes() + end)
    assert read_journal(path) == before
