"""Small runs of ``train-head`` and ``train-e2e``, with what they gave their model written down."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from c4c.cli.app import group
from c4c.heads.checkpoint import load_checkpoint
from c4c.training import cached, e2e
from c4c.training.journal import read_journal
from c4c.training.task import Task

COMMANDS = ["train-head", "train-e2e"]
# No step moves anything: what a run holds at its end is what it began with.
STILL = ("--lr", "1e-12", "--weight-decay", "0")


@dataclass
class Seen:
    """What a task was asked for and gave: a row a batch, and a row a chunk."""

    ids: list[list[str]] = field(default_factory=list)
    frames: dict[str, Tensor] = field(default_factory=dict)  # of each clip, as given last
    tokens: int = 0
    chunks: list[int] = field(default_factory=list)


@dataclass
class Run:
    """One run of a command."""

    out: Path
    line: dict[str, Any]
    words: str
    seen: Seen

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The log's steps."""
        return [row for row in read_journal(self.out / "log.jsonl") if "lr" in row]

    @property
    def meta(self) -> dict[str, Any]:
        return json.loads((self.out / "last/checkpoint.json").read_text())  # type: ignore[no-any-return]

    @property
    def head(self) -> dict[str, Tensor]:
        return load_checkpoint(self.out / "last").head.state_dict()

    @property
    def backbone(self) -> dict[str, Tensor]:
        found = load_checkpoint(self.out / "last").backbone_state
        assert found is not None
        return dict(found)


def spy(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Write down what the tasks of both commands load and encode."""
    seen = Seen()

    def watch(kind: Any) -> None:
        load, encode = kind.load, kind.encode

        def loading(self: Task, captions: Any, generator: torch.Generator) -> Any:
            found = load(self, captions, generator)
            names = [self.clip_of[row] for row in captions]
            seen.ids.append(names)
            for place, name in enumerate(names):
                seen.frames[name] = frames_of(found, place)
            if hasattr(found, "tokens"):
                seen.tokens = found.tokens.shape[1]
            return found

        def encoding(self: Task, inputs: Any, start: int, stop: int) -> Any:
            seen.chunks.append(stop - start)
            return encode(self, inputs, start, stop)

        monkeypatch.setattr(kind, "load", loading)
        monkeypatch.setattr(kind, "encode", encoding)

    for kind in (cached.CachedTask, e2e.E2ETask):
        watch(kind)
    return seen


def frames_of(inputs: Any, place: int) -> Tensor:
    """One clip's frames of a batch: features, or pixels."""
    count = int(inputs.lengths[place])
    if isinstance(inputs, cached.FeatureInputs):
        return inputs.clips.features[place, :count].clone()
    first = int(inputs.lengths[:place].sum())
    return inputs.pixels[first : first + count].clone()


Train = Callable[..., Run]


def run_into(out: Path, places: dict[str, list[str]], command: str, *options: str) -> Run:
    args = [command, *places[command], "--head", "seqTransf", "--layers", "1", "--epochs", "1"]
    args += ["--batch", "4", "--train-split", "val", "--eval-split", "none", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        seen = spy(patch)
        done = CliRunner().invoke(
            group, [*args, "--out", str(out), *options], catch_exceptions=False
        )
    assert done.exit_code == 0, done.output
    return Run(out, json.loads(done.stdout), done.stderr, seen)


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two parameters of one name."""
    return max(float((one[name] - other[name]).abs().max()) for name in one)


both = pytest.mark.parametrize("command", COMMANDS)
