"""What the loop trains: an encoder (CLIP, its projections, or nothing) below a head.

A task turns caption numbers into inputs, and inputs into frame and text features; the loop
and the gradient cache do the rest, the same for cached features and for videos.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from c4c.cache.seen import Seen
from c4c.core.errors import C4CError
from c4c.core.records import FeatureBatch, Overlap
from c4c.heads.base import Head
from c4c.heads.checkpoint import Checkpoint
from c4c.kernels import contrastive_loss
from c4c.training.batches import Indices, epoch_batches, group_batches
from c4c.training.config import TrainConfig
from c4c.training.losses import mil_nce, symmetric_cross_entropy


class Inputs(Protocol):
    """Raw inputs of a batch of B clips with a caption each."""

    @property
    def lengths(self) -> Tensor:
        """int64 [B]: frames of each clip."""


class Task(ABC):
    """A head, what lies below it, and the data of a run.

    Attributes:
        config: the run's settings.
        head: what is trained.
        device: where it is.
        clip_of: clip id of each training caption.
        texts: the training captions.
        stretches: (video, start in seconds) of each training caption's clip.
        seen: the clips that went into what is trained, this run's and those before it.
        leak: clips of the evaluated split that were trained on.
        notes: what must be said beside the figures of ``evaluate``.
        encoder_trains: whether anything below the head has a gradient.
    """

    config: TrainConfig
    head: Head
    device: torch.device
    clip_of: Sequence[str]
    texts: Sequence[str]
    stretches: Sequence[tuple[str, float]]
    seen: Seen = Seen.nothing()
    leak: Overlap = Overlap()
    notes: Sequence[str] = ()
    encoder_trains: bool = False

    @abstractmethod
    def modules(self) -> list[tuple[str, nn.Module, float]]:
        """What is trained: (name, module, factor of the learning rate)."""

    def expect(self, batches: Sequence[Indices]) -> None:  # noqa: B027 - most need not
        """What ``load`` will be asked for, in order: tasks may read ahead."""

    @abstractmethod
    def load(self, captions: Indices, generator: torch.Generator) -> Inputs:
        """Read the inputs of a batch; random frame choices come from ``generator``."""

    @abstractmethod
    def encode(self, inputs: Any, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Features of clips ``start`` to ``stop`` and of their captions.

        Returns:
            frames [b, T, D] with T the same for every slice of a batch, texts [b, D].
        """

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Figures on the evaluated split; empty when there is none."""

    def measure(self) -> dict[str, float]:
        """``evaluate``, and how many of the evaluated clips were trained on, if any."""
        found = self.evaluate()
        leaked = {"leaked_clips": float(self.leak.clips)} if found and self.leak.clips else {}
        return found | leaked

    @abstractmethod
    def save(self, folder: Path, meta: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Write a checkpoint, whole or not at all."""

    @abstractmethod
    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back the parameters that ``save`` wrote."""

    def train_mode(self, on: bool) -> None:
        """Dropout on or off, in everything that is trained."""
        for _, module, _ in self.modules():
            module.train(on)

    def batches(self, epoch: int) -> list[Indices]:
        """Caption numbers of each batch of an epoch."""
        config = self.config
        if config.objective == "mil-nce":
            return group_batches(self.stretches, config.batch, config.pairs, config.seed, epoch)
        one = config.clip_captions == "one"
        return epoch_batches(self.clip_of, self.texts, config.batch, config.seed, epoch, one)

    def autocast(self) -> AbstractContextManager[None]:
        """The run's precision, for what is computed inside."""
        half = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def loss(self, batch: FeatureBatch, text: Tensor) -> Tensor:
        """The loss of a batch; for heads with a vector a clip the logits are never whole."""
        if not self.head.loose or self.config.objective != "contrastive":
            return self.objective(self.similarity(batch, text))
        with self.autocast():
            clips, sentences = self.head.encode_clips(batch), self.head.encode_text(text)
        scale = self.head.logit_scale.exp()
        dtype = loss_dtype(self.config.precision, self.device.type)
        return contrastive_loss(sentences.to(dtype), clips.to(dtype), scale)

    def objective(self, similarity: Tensor) -> Tensor:
        """The run's loss from the logits [B, B] of a batch."""
        if self.config.objective == "mil-nce":
            return mil_nce(similarity, self.config.pairs)
        return symmetric_cross_entropy(similarity)

    def similarity(self, batch: FeatureBatch, text: Tensor) -> Tensor:
        """Logits [Q, B] in the run's precision."""
        with self.autocast():
            logits: Tensor = self.head(batch, text)
        return logits


def loss_dtype(precision: str, device: str) -> torch.dtype:
    """What vectors are handed to the loss in; it sums in float32 in any case.

    On a GPU the products of a run in bfloat16 go through the tensor cores; a CPU multiplies
    float32 as it is.
    """
    return torch.bfloat16 if precision == "bfloat16" and device == "cuda" else torch.float32


def put_back(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Give a module the parameters of the checkpoint at ``path``.

    Raises:
        C4CError: they are another module's.
    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise C4CError(f"{path} holds other parameters than this run has: {reason}") from None
