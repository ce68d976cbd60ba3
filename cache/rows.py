"""Where the rows of a plan lie: in its shards, or in the pieces of those that are incomplete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from c4c.cache.identity import Owner
from c4c.cache.pieces import pieces_folder, pieces_of
from c4c.cache.plan import Manifest, Part
from c4c.cache.shard import STATUS, Shard, make_shard
from c4c.cache.stored import read_shard
from c4c.core.errors import C4CError
from c4c.core.inside import is_there


class ShardsMissing(C4CError):
    """Shards that the plan names are not there (yet, or no longer)."""


def find_rows(
    owner: Owner, manifests: Sequence[Manifest], kind: str, incomplete: bool = False
) -> tuple[list[Shard], dict[tuple[str, str], tuple[int, int]]]:
    """Shards, and for each (split, id) its shard and row; those not there are left out if allowed.

    Raises:
        ShardsMissing: shards are missing, and must not be.
    """
    shards: list[Shard] = []
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for manifest in manifests:
        parts = manifest.parts if kind == "clips" else manifest.caption_parts
        gone = _missing(owner.path, manifest, parts, kind)
        if gone and not incomplete:
            raise ShardsMissing(
                f"{owner.path}: {len(gone)} of {len(parts)} {kind} shards of split "
                f"'{manifest.split}' are missing (first {gone[0].name}); run the same "
                "c4c extract again to complete it."
            )
        for part in parts:
            for shard, ids in _shards_of(owner, manifest, part, kind, part in gone):
                row_of = {name: row for row, name in enumerate(shard.texts["ids"])}
                fits = shard.kind == kind and len(row_of) == len(shard.status)
                fits = fits and shard.features.shape[1] == (shards or [shard])[0].features.shape[1]
                for name in ids:
                    if not fits or name not in row_of or (manifest.split, name) in places:
                        raise C4CError(
                            f"{owner.path}: shard {part.name} does not fit its manifest."
                        )
                    places[manifest.split, name] = (len(shards), row_of[name])
                shards.append(shard)
    return shards, places


def _missing(cache: Path, manifest: Manifest, parts: Sequence[Part], kind: str) -> list[Part]:
    return [p for p in parts if not is_there(manifest.shard_path(cache, p, kind), cache)]


def _shards_of(
    owner: Owner, manifest: Manifest, part: Part, kind: str, gone: bool
) -> Iterator[tuple[Shard, Sequence[str]]]:
    """A part's shard, or the pieces that there are of it; and the ids of the rows to take."""
    path = manifest.shard_path(owner.path, part, kind)
    if gone:
        pieces = pieces_of(pieces_folder(owner.path, manifest, part), part.ids, owner)
        # A run that completes the part puts the shard there, and only then removes the pieces.
        if not is_there(path, owner.path):
            yield from ((piece.shard, piece.shard.texts["ids"]) for piece in pieces)
            return
    # All of the captions are read in a moment, of the clips perhaps a few.
    yield read_shard(path, owner, whole=kind == "captions"), part.ids


def gather(kind: str, ids: Sequence[str], rows: Sequence[tuple[Shard, int]]) -> Shard:
    """A shard of rows of others.

    Args:
        kind: ``clips`` or ``captions``.
        ids: what the rows are called in it.
        rows: the shard and place of each; at least one.
    """
    texts = {
        column: [shard.texts[column][row] for shard, row in rows] for column in rows[0][0].texts
    }
    return make_shard(
        kind,
        [shard.row(row) for shard, row in rows],
        [shard.seconds(row) for shard, row in rows],
        [STATUS[shard.status[row]] for shard, row in rows],
        {**texts, "ids": list(ids)},
        rows[0][0].features.shape[1],
        min(shard.rules for shard, _ in rows),
        (shard.decoder for shard, _ in rows),
    )
