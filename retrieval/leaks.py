"""What of the evaluated clips a model has seen before: the records of cache and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.records import Leak

if TYPE_CHECKING:
    from c4c.cache.open import Cache
    from c4c.cache.seen import Seen


def find_leak(
    cache: Cache, split: str | None, checkpoint: Path | None, meta: dict[str, Any]
) -> Leak:
    """What of a split has gone into the backbone of its features, or into the head.

    Args:
        cache: with the features of the split.
        split: the split; ``None`` is all.
        checkpoint: of the head; ``None`` for mean pooling, into which nothing went.
        meta: what the checkpoint says of itself.

    Raises:
        C4CError: a record is damaged.
    """
    from c4c.cache.seen import Seen

    seen = Seen.read(cache.path)
    if checkpoint is not None:
        seen |= _of_checkpoint(cache, checkpoint, meta)
    return seen.leak(cache.clips(split, captioned=True).clips, cache.stamps(split))


def _of_checkpoint(cache: Cache, checkpoint: Path, meta: dict[str, Any]) -> Seen:
    """A checkpoint's record; of one from before there were records, what its settings tell."""
    from c4c.cache.seen import FILE, Seen
    from c4c.heads import HEADS
    from c4c.heads.checkpoint import standing

    folder = standing(checkpoint) or checkpoint
    unknown = f"{checkpoint} does not record its clips"
    settings = meta.get("config") or {}
    split = settings.get("train_split")
    if (folder / FILE).exists() or not isinstance(split, str) or settings.get("init_head"):
        return Seen.read(folder, unknown)
    name = str(settings.get("head"))
    untrained = name in HEADS and not HEADS[name].trainable
    if untrained and settings.get("tune") == "head":
        return Seen.nothing()
    if settings.get("dataset", cache.dataset) != cache.dataset or split not in cache.splits:
        return Seen.nothing(unknown)
    return Seen.of(cache.clips(split).clips, cache.stamps(split))
