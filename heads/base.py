"""What every head is: a module that scores texts against clips, padding never read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from c4c.core.errors import C4CError
from c4c.core.records import FeatureBatch
from c4c.heads.projections import Projections
from c4c.kernels import masked_mean_pool

# A head without a position table takes clips of any length.
UNLIMITED = 2**31 - 1
# Deviation of what starts at random, as in BERT and in CLIP4Clip.
INIT_STD = 0.02


class Head(nn.Module):
    """A similarity between sentences and clips (CLIP4Clip, sections 3.3 and 3.4).

    Loose heads make one vector a clip and compare by cosine, so a gallery can be stored;
    tight heads look at every pair of a text and a clip.

    A head says what it is, and others ask that instead of its name.

    Attributes:
        name: name in the registry of heads.
        loose: whether there is a vector a clip; else it is tight.
        sees_order: whether the order of frames can change a score.
        trainable: whether there is anything to train on features that do not change.
        in_authors_code: whether CLIP4Clip's code has it: its checkpoints can be imported and
            exported (``c4c.interop.authors`` has the names of its parameters).
        dim: D, channels of the features it takes.
        max_frames: the most frames a clip may have.
        logit_scale: log of the factor on cosines, a scalar parameter.
        projections: CLIP's, for a head on features that were cached before them; it then
            takes frames and texts of the towers' widths instead of ``dim``.
        origin: what the parameters started from, in words.
    """

    name: ClassVar[str]
    loose: ClassVar[bool] = True
    sees_order: ClassVar[bool] = True
    trainable: ClassVar[bool] = True
    in_authors_code: ClassVar[bool] = False
    # Rows of the position table that stand for something else than a frame.
    reserved: ClassVar[int] = 0

    def __init__(self, dim: int, positions: int, layers: int) -> None:
        super().__init__()
        self.dim = dim
        self.positions = positions
        self.layers = layers
        self.max_frames = UNLIMITED
        self.projections: Projections | None = None
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.origin = "no parameters but the logit scale"

    def __repr__(self) -> str:
        # Torch's own shows every layer on a line of its own.
        parts = [f"dim {self.dim}"]
        if self.max_frames != UNLIMITED:
            parts.append(f"at most {self.max_frames} frames")
        parts.append(f"{sum(one.numel() for one in self.parameters())} parameters")
        return f"{type(self).__name__}({', '.join(parts)}, {'loose' if self.loose else 'tight'})"

    @classmethod
    def rows_for(cls, frames: int, rows: int) -> int:
        """Rows of a position table for ``frames`` frames, at least ``rows``."""
        return max(rows, frames + cls.reserved)

    def config(self) -> dict[str, Any]:
        """What rebuilds the module: its arguments, as JSON holds them."""
        found = {"dim": self.dim, "positions": self.positions, "layers": self.layers}
        if self.projections is not None:
            found["vision_width"] = len(self.projections.visual)
            found["text_width"] = len(self.projections.text)
        return found

    def start_from(self, init: Mapping[str, Tensor]) -> None:
        """Take parameters from CLIP's text transformer, where they fit.

        Args:
            init: as ``Backbone.head_init()`` gives it; may be empty.
        """
        if "logit_scale" in init:
            with torch.no_grad():
                self.logit_scale.copy_(init["logit_scale"].reshape(()))

    def forward(self, batch: FeatureBatch, text: Tensor, chunk: int | None = None) -> Tensor:
        """Logits of every text against every clip.

        Args:
            batch: frame features [B, T, D] (or the vision tower's width) and lengths [B].
            text: [Q, D] (or the text tower's width), as the backbone gave them.
            chunk: for tight heads, pairs computed at once; loose heads need none.

        Returns:
            [Q, B]: cosine times exp(logit_scale) for loose heads, plain logits for tight ones.

        Raises:
            C4CError: a clip is longer than the position table, or channels do not fit.
        """
        cosines = self.encode_text(text) @ self.encode_clips(batch).T
        return self.logit_scale.exp() * cosines

    def encode_clips(self, batch: FeatureBatch) -> Tensor:
        """One unit vector a clip, [B, D]; zeros for a clip without frames.

        Raises:
            C4CError: the head is tight, a clip is too long, or channels do not fit.
        """
        self._require_loose()
        batch = self.clean(batch)
        frames = self.contextualise(batch) if len(batch) else batch.features
        return masked_mean_pool(frames, batch.lengths)

    def encode_text(self, text: Tensor) -> Tensor:
        """Unit vectors of texts, [Q, D].

        Raises:
            C4CError: the head is tight, or channels do not fit.
        """
        self._require_loose()
        return F.normalize(self.check_text(text), dim=-1)

    def contextualise(self, batch: FeatureBatch) -> Tensor:
        """Frames [B, T, D] that know of each other; ``batch`` is clean (zeros in padding)."""
        raise NotImplementedError(f"{self.name} has no vector a clip")

    def clean(self, batch: FeatureBatch) -> FeatureBatch:
        """The batch with zeros in its padding, at least one frame wide, length checked.

        Raises:
            C4CError: a clip is longer than ``max_frames``, or channels do not fit.
        """
        given = self.projections
        features, lengths = batch.features, batch.lengths.to(batch.features.device)
        self._check_channels("frame", features, given.visual if given else None)
        if features.shape[1] > self.max_frames:
            longest = int(lengths.max()) if len(batch) else 0
            if longest > self.max_frames:
                raise C4CError(
                    f"{self.name}: a clip has {longest} frames and the position table holds "
                    f"{self.max_frames}; pass --max-frames {self.max_frames} or train a longer one."
                )
            features = features[:, : self.max_frames]
        if features.shape[1] == 0:
            features = F.pad(features, (0, 0, 0, 1))
        padded = FeatureBatch(_wide(features), lengths)
        filled = torch.where(padded.mask()[:, :, None], padded.features, 0.0)
        return FeatureBatch(filled if given is None else filled @ given.visual, lengths)

    def check_text(self, text: Tensor) -> Tensor:
        """Text features [Q, D] in full precision, their channels checked."""
        given = self.projections
        self._check_channels("text", text, given.text if given else None)
        return _wide(text) if given is None else _wide(text) @ given.text

    def _check_channels(self, kind: str, features: Tensor, projection: Tensor | None) -> None:
        wanted = self.dim if projection is None else len(projection)
        if features.shape[-1] != wanted:
            raise C4CError(
                f"{self.name}: {kind} features have {features.shape[-1]} channels and the head "
                f"takes {wanted}; was it trained on another backbone?"
            )

    def _require_loose(self) -> None:
        if not self.loose:
            from c4c.heads import HEADS

            loose = ", ".join(name for name, kind in HEADS.items() if kind.loose)
            raise C4CError(
                f"{self.name} has no vector a clip: it scores each pair of a sentence and a clip. "
                f"A gallery needs a loose head: {loose}."
            )


def _wide(features: Tensor) -> Tensor:
    """Half precision as float32: norms and means of cached fp16 features need the range."""
    return features.float() if features.element_size() < 4 else features


def position_table(rows: int, dim: int) -> nn.Parameter:
    """A table [rows, dim] of position embeddings at random."""
    return nn.Parameter(torch.randn(rows, dim) * INIT_STD)


def copy_positions(table: nn.Parameter, init: Mapping[str, Tensor]) -> str:
    """Fill the first rows from CLIP's positions if the widths agree; say what was done."""
    given = init.get("positional_embedding")
    if given is None:
        return "positions at random"
    if given.shape[1] != table.shape[1]:
        return f"positions at random (CLIP's text is {given.shape[1]} wide, not {table.shape[1]})"
    rows = min(len(given), len(table))
    with torch.no_grad():
        table[:rows] = given[:rows]
    rest = f", {len(table) - rows} at random" if len(table) > rows else ""
    return f"{rows} positions of CLIP's text transformer{rest}"
