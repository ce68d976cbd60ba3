"""Clips that have features, and of which something must be said all the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from c4c.cache.identity import Owner
from c4c.cache.open import Failure
from c4c.cache.plan import Manifest
from c4c.cache.shard import STATUS
from c4c.cache.stored import holds, read_shard


def noted(owner: Owner, manifests: Sequence[Manifest]) -> tuple[Failure, ...]:
    """Partial clips, and complete ones with a message, of the shards that are there.

    Raises:
        C4CError: shards that are damaged.
    """
    return tuple(sorted(_noted(owner, manifests), key=lambda clip: clip.clip_id))


def _noted(owner: Owner, manifests: Sequence[Manifest]) -> Iterator[Failure]:
    for manifest in manifests:
        for part in manifest.parts:
            path = manifest.shard_path(owner.path, part, "clips")
            if not holds(path, owner):
                continue
            shard, ids = read_shard(path, owner), set(part.ids)
            for row in np.flatnonzero(np.diff(shard.offsets)):
                name, words = (shard.texts[key][row] for key in ("ids", "messages"))
                if words and name in ids:
                    yield Failure(name, STATUS[shard.status[row]], words)
