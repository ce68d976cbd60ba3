"""The plan of a split: the one that holds, or a new one when data or wishes have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from c4c.cache.contents import Contents, drop_journals
from c4c.cache.manifests import load_manifests, save_manifest
from c4c.cache.open import Cache, commit_shard
from c4c.cache.pieces import pieces_folder, pieces_of, remove_pieces
from c4c.cache.plan import Manifest, Part, part_name, plan, same_data, same_stretches
from c4c.cache.rows import gather
from c4c.cache.stored import holds
from c4c.core.progress import say
from c4c.core.records import Dataset
from c4c.extract.config import ExtractConfig
from c4c.extract.library import Continued, continued, copies_of, with_lasting_paths
from c4c.extract.refresh import outdated


def undone(cache: Cache, manifest: Manifest, parts: Sequence[Part], kind: str) -> list[Part]:
    """Those of ``parts`` whose shard is not there yet.

    Raises:
        Misplaced: another cache's shard stands there, or a link, or a folder.
    """
    paths = {part: manifest.shard_path(cache.path, part, kind) for part in parts}
    return [part for part, path in paths.items() if not holds(path, cache.owner)]


def settle(cache: Cache, dataset: Dataset, config: ExtractConfig) -> Manifest:
    """The plan for a split.

    Raises:
        C4CError: the cache cannot be read or written, or another run plans at the same time.
    """
    manifests = load_manifests(cache.path)
    before = manifests.get(dataset.split)
    contents = Contents(cache.path, manifests.values())
    state = _State.of(cache, before)
    given = dataset.name != "folder" or config.captions is not None
    found = continued(with_lasting_paths(dataset), before, contents, state.extracted, given)
    again = _again(cache, before, found, config, state)
    if before and same_data(before, found.dataset) and not again:
        return before
    for clip in found.dataset.clips:
        if clip.id in again:
            contents.forget(clip.path, found.stamps.get(clip.path, ""))
    keep = same_stretches(before, found.dataset) - again
    parts, released = _reused(cache, before, keep, state) if before else ([], [])
    held = {name for part in parts for name in part.ids} & keep
    anew = frozenset(clip.id for clip in found.dataset.clips) - held
    copies = copies_of(found, anew, manifests, contents)
    stamps = {**(before.files if before else {}), **found.stamps}
    hashes = {path: contents.known(path, stamp) for path, stamp in stamps.items()}
    known = {path: digest for path, digest in hashes.items() if digest}
    manifest = plan(
        found.dataset, before, config.shard_clips, again, found.stamps, known, copies, parts
    )
    save_manifest(cache.path, manifest)
    if before:
        for part in released:
            remove_pieces(pieces_folder(cache.path, before, part))
    drop_journals(cache.path, [*manifests.values(), manifest])
    return manifest


@dataclass(frozen=True, slots=True)
class _State:
    """How far the plan before has been carried out.

    Attributes:
        undone: parts without a shard.
        extracted: ids of clips that have a row, in a shard or in a piece.
    """

    undone: tuple[Part, ...] = ()
    extracted: frozenset[str] = frozenset()

    @classmethod
    def of(cls, cache: Cache, before: Manifest | None) -> _State:
        if before is None:
            return cls()
        todo = undone(cache, before, before.parts, "clips")
        ids = {name for part in before.parts if part not in todo for name in part.ids}
        for part in todo:
            pieces = pieces_of(pieces_folder(cache.path, before, part), part.ids, cache.owner)
            ids |= {name for piece in pieces for name in piece.shard.texts["ids"]}
        return cls(tuple(todo), frozenset(ids))


def _again(
    cache: Cache,
    before: Manifest | None,
    found: Continued,
    config: ExtractConfig,
    state: _State,
) -> frozenset[str]:
    """Ids of the clips to extract once more: replaced ones, and failures when asked."""
    if found.replaced:
        say(
            f"{found.dataset.name} {found.dataset.split}: the videos of {len(found.replaced)} "
            f"clips were replaced (first '{min(found.replaced)}'); they are extracted again"
        )
    if not before:
        return found.replaced
    again: set[str] = set()
    if config.refresh:
        again |= outdated(cache.owner, before, config)
    # A plan that was cut short is finished first: failures are known when all shards are there.
    if config.retry_failed and not state.undone:
        failed = Cache.open(cache.path).clips(found.dataset.split).failed
        again |= {failure.clip_id for failure in failed}
    return found.replaced | (again & {clip.id for clip in found.dataset.clips})


def _reused(
    cache: Cache, before: Manifest, keep: frozenset[str], state: _State
) -> tuple[list[Part], list[Part]]:
    """(Parts that the next plan takes over, parts that it gives up).

    A part that is not complete goes on as it is, so that runs that are at it work for the new plan
    too. One that loses clips cannot: what there is of it becomes a shard of its own.
    """
    parts: list[Part] = []
    released: list[Part] = []
    for place, part in enumerate(before.parts):
        copied = any(name in before.copies for name in part.ids)
        if part not in state.undone or (keep.issuperset(part.ids) and not copied):
            parts.append(part)
            continue
        released.append(part)
        if adopted := _adopted(cache, before, part, place, keep):
            parts.append(adopted)
    return parts, released


def _adopted(
    cache: Cache, before: Manifest, part: Part, place: int, keep: frozenset[str]
) -> Part | None:
    """A shard of what the pieces of a part hold; ``None`` when that is nothing."""
    pieces = pieces_of(pieces_folder(cache.path, before, part), part.ids, cache.owner)
    rows = {
        name: (piece.shard, row)
        for piece in pieces
        for row, name in enumerate(piece.shard.texts["ids"])
        if name in keep
    }
    if not rows:
        return None
    ids = tuple(rows)
    fresh = Part(part_name(before.number, place, ["adopted", part.name, *ids]), ids)
    shard = gather("clips", ids, list(rows.values()))
    commit_shard(cache, before.shard_path(cache.path, fresh, "clips"), shard)
    return fresh
