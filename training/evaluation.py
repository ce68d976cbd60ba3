"""Figures of a head on one split while it trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from c4c.core.records import FeatureBatch
from c4c.heads.base import Head
from c4c.retrieval.metrics import places_of, retrieval_metrics, twin_accuracy, twin_wins
from c4c.retrieval.notes import SEVERAL, gallery_notes

BLOCK = 128  # clips scored at once


@dataclass(frozen=True, slots=True)
class Answers:
    """Which clip each caption is of, and which clips are twins.

    Attributes:
        owners: int64 [captions], place of the caption's clip.
        twins: int64 [clips], place of the clip's twin, -1 without one.
    """

    owners: np.ndarray[tuple[int], np.dtype[np.int64]]
    twins: np.ndarray[tuple[int], np.dtype[np.int64]]


def answers(clip_ids: Sequence[str], of_caption: Sequence[str], twins: dict[str, str]) -> Answers:
    """The right answers of a split."""
    pairs = [twins.get(name, "") for name in clip_ids]
    return Answers(places_of(clip_ids, of_caption), places_of(clip_ids, pairs))


def answer_notes(right: Answers, expected: int, missing: int, failed: int) -> list[str]:
    """What an evaluation of the same split says beside its figures.

    Args:
        right: the right answers.
        expected: clips that the annotations name.
        missing: those without a video.
        failed: those that could not be decoded.
    """
    owners = right.owners[right.owners >= 0]
    notes = gallery_notes(expected, missing, failed, len(right.owners) - len(owners))
    return [*notes, SEVERAL] if len(np.unique(owners)) < len(owners) else notes


@torch.inference_mode()
def figures(
    head: Head, batches: Iterable[FeatureBatch], text: Tensor, right: Answers
) -> dict[str, float]:
    """Recalls at 1, 5 and 10 and ranks in both directions, and twin accuracy where it applies.

    Args:
        head: in evaluation mode.
        batches: the clips of the gallery, in order.
        text: [captions, D].
        right: the right answers.
    """
    encoded = head.encode_text(text) if head.loose else text
    columns = [
        encoded @ head.encode_clips(batch).T if head.loose else head(batch, encoded)
        for batch in batches
    ]
    similarity = torch.cat(columns, dim=1).float().cpu().numpy()
    kept = np.flatnonzero(right.owners >= 0)
    similarity, owners = similarity[kept], right.owners[kept]
    found = {
        f"{way}_{name}": value
        for way, metrics in retrieval_metrics(similarity, owners).items()
        for name, value in metrics.as_dict().items()
        if name in ("r1", "r5", "r10", "median_rank", "mean_rank")
    }
    twins = twin_accuracy(twin_wins(similarity, owners, right.twins))
    if twins is not None:
        found["twin_accuracy"] = twins
    return found


def score(found: dict[str, float]) -> float:
    """What the best checkpoint is chosen by: R@1 in both directions."""
    return found["t2v_r1"] + found["v2t_r1"]
