"""Temporal heads: frame features and text features in, a similarity matrix out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from c4c.core.errors import C4CError
from c4c.core.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from c4c.heads.base import Head

HEADS = Registry(
    "head",
    {
        "meanP": "c4c.heads.meanp:MeanP",
        "seqLSTM": "c4c.heads.seqlstm:SeqLSTM",
        "seqTransf": "c4c.heads.seqtransf:SeqTransf",
        "tightTransf": "c4c.heads.tighttransf:TightTransf",
    },
)
# What needs no training: the default of searches, and what makes a tight head's shortlist.
MEAN = "meanP"
AVERAGES = ("after", "before")  # the frames are normalised, that one averages them
# Positions when CLIP's text transformer gives none: as many as CLIP has.
POSITIONS = 77


def build_head(
    name: str,
    dim: int,
    init: Mapping[str, Tensor] | None = None,
    max_frames: int | None = None,
    layers: int = 4,
    hidden: bool = False,
) -> Head:
    """Make a head, started from CLIP's text transformer as CLIP4Clip does.

    What does not fit (a text tower of another width, more layers than it has, more positions)
    starts at random from torch's seed; ``head.origin`` says what came from where.

    Args:
        name: a name in ``HEADS``.
        dim: D, channels in which frames and texts are compared.
        init: ``Backbone.head_init()`` or ``Cache.head_init()``; ``None`` is all at random.
        max_frames: frames that must fit; the position table is at least as long as CLIP's.
        layers: transformer layers, of heads that have any.
        hidden: the features are from before CLIP's projections, which become a part of the
            head, as ``init`` has them.

    Raises:
        C4CError: unknown head, a number that is out of its range, or no projections to take.
    """
    if dim < 1 or layers < 1 or (max_frames is not None and max_frames < 1):
        raise C4CError(
            f"{name}: dim {dim}, layers {layers}, max frames {max_frames}; expected 1 or more."
        )
    kind = HEADS[name]
    given = dict(init or {})
    table = given.get("positional_embedding")
    rows = POSITIONS if table is None else table.shape[0]
    head: Head = kind(dim, positions=kind.rows_for(max_frames or 1, rows), layers=layers)
    head.start_from(given)
    if hidden:
        from c4c.heads.projections import Projections

        head.projections = Projections.of_clip(given)
    return head


def mean_of(head: Head) -> Head:
    """MeanP on the same features as ``head``: what makes the shortlist of a tight one."""
    made = build_head(MEAN, head.dim).to(head.logit_scale.device)
    made.projections = head.projections
    return made.eval()
