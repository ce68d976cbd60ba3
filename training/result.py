"""What a training gives back: the folders of its checkpoints, and its figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from c4c.heads.base import Head


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves. It stands for its best checkpoint wherever a path to one is taken.

    Attributes:
        checkpoint: folder of the best checkpoint (the last one when nothing was evaluated).
        last: folder of the last checkpoint.
        metrics: figures of the best checkpoint on the evaluated split, ``t2v_r1`` and so on;
            empty when nothing was evaluated.
        steps: optimizer steps taken, over all resumptions.
        notes: what must be said beside the metrics.
    """

    checkpoint: Path
    last: Path
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.checkpoint)

    def __repr__(self) -> str:
        figures = f", R@1 {self.metrics['t2v_r1']:.1f}" if "t2v_r1" in self.metrics else ""
        return f"TrainResult('{self.checkpoint}', {self.steps} steps{figures})"

    @cached_property
    def head(self) -> Head:
        """The head of the best checkpoint, in float32 on the CPU, in evaluation mode.

        Raises:
            C4CError: the checkpoint is gone or damaged.
        """
        from c4c.heads.checkpoint import load_checkpoint

        return load_checkpoint(self.checkpoint).head
