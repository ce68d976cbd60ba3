"""Every score of an evaluation, a block of queries at a time: what exports are written from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from c4c.retrieval.metrics import group_maximum
from c4c.retrieval.rerank import DECIMALS, Weights, score_blocks

Indices = npt.NDArray[np.int64]
Block = tuple[Indices, npt.NDArray[Any]]
# Of plain cosines nothing finer is meant: equal vectors tie however a product was blocked, and
# others differ as they do where ranks are counted exactly.
EXACT = 12
_ROWS = 256


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores in both directions, as the ranks of an evaluation were counted from.

    Attributes:
        own: int [captions], each caption's clip.
    """

    own: Indices

    def t2v(self) -> Iterator[Block]:
        """(places of captions, scores [rows, clips]), in order."""
        raise NotImplementedError

    def v2t(self) -> Iterator[Block]:
        """(places of captioned clips, scores [rows, captioned clips]), in order.

        A clip's captions score as the best of them does (``group_maximum``).
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class VectorScores(Scores):
    """Cosines of unit vectors, made when they are asked for.

    Attributes:
        text: [captions, D].
        video: [clips, D].
        by_clip: re-weights text to video; ``None`` leaves the cosines.
        by_caption: re-weights video to text, likewise.
    """

    text: Tensor
    video: Tensor
    by_clip: Weights | None = None
    by_caption: Weights | None = None

    def t2v(self) -> Iterator[Block]:
        """See ``Scores.t2v``."""
        decimals = DECIMALS if self.by_clip else EXACT
        return score_blocks(self.text, self.video, self.by_clip, decimals)

    def v2t(self) -> Iterator[Block]:
        """See ``Scores.v2t``."""
        clips = np.unique(self.own)
        exact = self.by_caption is None and len(clips) == len(self.own)
        captioned = self.video[torch.from_numpy(clips)]
        decimals = EXACT if exact else DECIMALS
        for places, scores in score_blocks(captioned, self.text, self.by_caption, decimals):
            yield places, group_maximum(scores.T, self.own)[0].T


@dataclass(frozen=True, eq=False)
class MatrixScores(Scores):
    """Scores that a tight head gave, pair by pair.

    Attributes:
        by_text: [captions, clips].
        by_clip: the same where both directions were scored alike; with shortlists they differ.
    """

    by_text: npt.NDArray[Any]
    by_clip: npt.NDArray[Any]

    def t2v(self) -> Iterator[Block]:
        """See ``Scores.t2v``."""
        return _rows(self.by_text)

    def v2t(self) -> Iterator[Block]:
        """See ``Scores.v2t``."""
        groups, clips = group_maximum(self.by_clip, self.own)
        return _rows(groups[:, clips].T)


def _rows(matrix: npt.NDArray[Any]) -> Iterator[Block]:
    for low in range(0, len(matrix), _ROWS):
        rows = matrix[low : low + _ROWS]
        yield np.arange(low, low + len(rows)), rows
