"""A task in memory, for what training does with any task."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from c4c.core.records import FeatureBatch
from c4c.heads import build_head
from c4c.heads.checkpoint import Checkpoint, save_checkpoint
from c4c.training.cached import FeatureInputs
from c4c.training.config import TrainHeadConfig
from c4c.training.task import Task


class FeatureTask(Task):
    """A head on random features in memory, ``COUNT`` clips with a caption each.

    Args:
        config: settings.
        encoder: a small encoder of frames and one of texts, with dropout, learn below the head.
        figures: what evaluations find, one after the other.

    Attributes:
        draws: where the generator of every batch that was loaded began.
    """

    COUNT, DIM, FRAMES = 24, 16, 4

    def __init__(
        self, config: TrainHeadConfig, encoder: bool, figures: Sequence[dict[str, float]]
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, torch.device("cpu")
        self.head = build_head(config.head, self.DIM, layers=1)
        for name, value in self.head.named_parameters():
            if name in ("pool.weight", "similarity.weight"):  # as they start, all logits are alike
                nn.init.normal_(value)
        self.below = nn.ModuleList(
            nn.Sequential(nn.Linear(self.DIM, self.DIM), nn.Dropout(0.3)) for _ in range(2)
        )
        self.encoder_trains = encoder
        generator = torch.Generator().manual_seed(7)
        shape = (self.COUNT, self.FRAMES, self.DIM)
        self._frames = torch.randn(*shape, generator=generator)
        self._lengths = torch.randint(1, self.FRAMES + 1, (self.COUNT,), generator=generator)
        self._texts = torch.randn(self.COUNT, self.DIM, generator=generator)
        self.clip_of = [f"clip{row:02}" for row in range(self.COUNT)]
        self.texts = [f"text{row:02}" for row in range(self.COUNT)]
        self.stretches = [(f"video{row // 6}", float(row)) for row in range(self.COUNT)]
        self.draws: list[int] = []
        self._figures = iter(figures)

    def modules(self) -> list[tuple[str, nn.Module, float]]:
        own: list[tuple[str, nn.Module, float]] = [("head", self.head, 1.0)]
        return [*own, ("below", self.below, self.config.coef_lr)] if self.encoder_trains else own

    def inputs(self, rows: Iterable[int]) -> tuple[FeatureBatch, torch.Tensor]:
        places = torch.tensor(list(rows))
        return FeatureBatch(self._frames[places], self._lengths[places]), self._texts[places]

    def load(self, captions: Any, generator: torch.Generator) -> FeatureInputs:
        self.draws.append(generator.initial_seed())
        return FeatureInputs(*self.inputs(captions))

    def encode(self, inputs: Any, start: int, stop: int) -> tuple[torch.Tensor, torch.Tensor]:
        frames, texts = inputs.clips.features[start:stop], inputs.texts[start:stop]
        return (self.below[0](frames), self.below[1](texts)) if self.encoder_trains else (
            frames, texts)  # fmt: skip

    def evaluate(self) -> dict[str, float]:
        return next(self._figures, {})

    def save(self, folder: Path, meta: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
        save_checkpoint(folder, self.head, meta, state=state or None)

    def restore(self, checkpoint: Checkpoint) -> None:
        self.head.load_state_dict(checkpoint.head.state_dict())


@pytest.fixture
def feature_task() -> Callable[..., FeatureTask]:
    """Gives a function that makes a ``FeatureTask`` of these settings."""

    def made(
        encoder: bool = False, figures: Sequence[dict[str, float]] = (), **changes: Any
    ) -> FeatureTask:
        settings = {"head": "seqTransf", "epochs": 2, "batch": 6, "eval_split": "none", **changes}
        return FeatureTask(TrainHeadConfig(**settings), encoder, figures)

    return made
