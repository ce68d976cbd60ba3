"""A gallery that a Ray cluster searches: its pieces shared out, what is found merged exactly."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from c4c.core.cluster import connect
from c4c.core.errors import C4CError
from c4c.retrieval.gallery import Gallery, State, merged

if TYPE_CHECKING:
    from c4c.retrieval.gallery import Mask

_TRIES = 3  # of a search: when a machine is lost, others take its pieces
Found = tuple[Tensor, Tensor, Tensor]


class RayGallery:
    """Searches a gallery on a cluster, whose machines see it under the same path.

    An actor a core, each with a run of neighbouring pieces mapped from the gallery's folder; only
    queries go there, and rows come back. Actors reserve no cores, so that those of a machine that
    is lost start again wherever one is left.

    Args:
        gallery: what is searched.
        address: of the cluster; ``None`` is Ray's own choice.

    Raises:
        C4CError: no Ray, or no cluster.
    """

    def __init__(self, gallery: Gallery, address: str | None) -> None:
        self._ray, self._gallery = connect(address), gallery
        self._start()

    def _start(self) -> None:
        state = self._gallery.state
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        count = max(1, min(len(state.pieces), cores))
        ends = [len(state.pieces) * share // count for share in range(count + 1)]
        made = self._ray.remote(num_cpus=0, scheduling_strategy="SPREAD")(_Share)
        folder = self._gallery.folder.absolute()  # actors start in folders of their own
        self._actors = [
            (first, last, made.remote(folder, replace(state, pieces=state.pieces[first:last])))
            for first, last in pairwise(ends)
        ]

    def nearest(
        self, kind: str, text: Tensor, count: int, allowed: list[Mask | None] | None = None
    ) -> Found:
        """What ``Gallery.nearest`` gives.

        Raises:
            C4CError: a machine of the cluster cannot read the gallery, or too many were lost.
        """
        # In the order of pieces, as one process would find them.
        found = [
            (scores, torch.where(pieces < 0, -1, pieces + first), rows)
            for (first, _, _), (scores, pieces, rows) in zip(
                self._actors, self._asked(kind, text, count, allowed), strict=True
            )
        ]
        return merged(found, count)

    def _asked(self, *question: Any) -> list[Found]:
        """What each actor finds."""
        *same, allowed = question
        for left in reversed(range(_TRIES)):
            asked = [
                actor.nearest.remote(*same, allowed[first:last] if allowed else None)
                for first, last, actor in self._actors
            ]
            try:
                found: list[Found] = self._ray.get(asked)
            except self._ray.exceptions.RayError as error:
                if not left:
                    reason = str(error).strip().splitlines()[-1][:300]
                    raise C4CError(f"The cluster cannot search the gallery: {reason}") from None
                self._start()
            else:
                break
        return found

    def close(self) -> None:
        """Let go of the cluster."""
        self._ray.shutdown()


class _Share:
    """Some pieces of a gallery, in a process of the cluster."""

    def __init__(self, folder: Path, state: State) -> None:
        torch.set_num_threads(1)
        self._gallery = Gallery(folder, state)

    def nearest(self, kind: str, text: Tensor, count: int, allowed: Any) -> Found:
        """The nearest rows of these pieces."""
        with torch.inference_mode():
            return self._gallery.nearest(kind, text, count, allowed)
