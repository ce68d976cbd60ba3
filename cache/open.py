"""Reading a cache: no lock, memory-mapped, safe in forked and spawned processes alike."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from c4c.cache.features import CaptionFeatures, ClipFeatures, open_captions, open_clips
from c4c.cache.findings import Failure
from c4c.cache.head_init import read_head_init
from c4c.cache.identity import Owner, identity_of
from c4c.cache.manifests import load_manifests
from c4c.cache.plan import Manifest
from c4c.cache.shard import Shard
from c4c.cache.stored import is_bound_to, write_shard
from c4c.core.errors import C4CError, Misplaced
from c4c.core.files import json_bytes, write_once
from c4c.core.inside import is_there, refuse_links, regular_files
from c4c.core.progress import say
from c4c.core.records import Fingerprint
from c4c.core.schema import Closed, read_record

if TYPE_CHECKING:
    import torch

__all__ = [
    "Cache",
    "CaptionFeatures",
    "ClipFeatures",
    "Failure",
    "commit_shard",
    "create_cache",
    "find_cache",
]

SCHEMA = 1
DEFAULT = Path("c4c-cache")


@dataclass(frozen=True, slots=True)
class _CacheFile:
    """What ``cache.json`` holds, besides the number of its schema."""

    dataset: str
    fingerprint: Annotated[Fingerprint, Closed]


def find_cache(path: Path | None) -> Path:
    """``path``, or the only cache below ``c4c-cache/``.

    Raises:
        C4CError: there is none, or there are several; the message lists them.
    """
    if path is not None:
        return path
    found = sorted(one.parent for one in DEFAULT.glob("*/cache.json"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(str(one) for one in found) or "none"
    raise C4CError(f"Which cache? Below {DEFAULT}/ there are: {names}. Pass --cache FOLDER.")


def create_cache(path: Path, dataset: str, fingerprint: Fingerprint) -> Cache:
    """Make the cache folder, or check that the one there was made in the same way.

    Raises:
        C4CError: it holds another dataset, or features made otherwise (and how they differ);
            another version of the same decoder is only said.
        Misplaced: it has lost its cache.json, and holds shards of other features.
    """
    if not is_there(path / "cache.json", path):
        _refuse_leftovers(Owner(path, identity_of(dataset, fingerprint)))
        content = {"schema": SCHEMA, "dataset": dataset, "fingerprint": asdict(fingerprint)}
        # Of two runs that begin at once the first one's settings hold.
        write_once(path / "cache.json", json_bytes(content), path / "tmp")
    cache = Cache.open(path)
    if cache.dataset != dataset:
        raise C4CError(f"{path} is a cache of {cache.dataset}; pass another --cache.")
    theirs = cache.fingerprint
    if fingerprint.decoder != theirs.decoder and _library(fingerprint) == _library(theirs):
        say(
            f"{path} was begun with {theirs.decoder}, and this is {fingerprint.decoder}: what is "
            "made now says so in its shards"
        )
        fingerprint = replace(fingerprint, decoder=theirs.decoder)
    differing = fingerprint.differences(theirs)
    if differing:
        raise C4CError(
            f"{path} was made with other settings (now, there: {'; '.join(differing)}); "
            "pass another --cache, or the settings it was made with."
        )
    return cache


def _library(fingerprint: Fingerprint) -> str:
    """The decoder's name without its version."""
    return fingerprint.decoder.partition(" ")[0]


def _refuse_leftovers(owner: Owner) -> None:
    """A folder without cache.json may hold shards, of which nobody knows what made them."""
    for path in list_shards(owner.path):
        if not is_bound_to(path, owner):
            raise Misplaced(
                f"{owner.path} has no cache.json, and holds {path}, which was made with other "
                "settings or does not say with which; put cache.json back, or pass another --cache."
            )


def list_shards(cache: Path) -> list[Path]:
    """Every shard that lies in a cache folder, whether a plan names it or not.

    Raises:
        Misplaced: they lie behind a symbolic link.
        Unreadable: a folder cannot be listed now.
    """
    refuse_links(cache / "shards", cache)
    return list(regular_files(cache / "shards", ".h5"))


def commit_shard(cache: Cache, path: Path, shard: Shard) -> None:
    """Write a shard of ``cache``, unless that was replaced since it was opened.

    Raises:
        C4CError: it was, or the shard cannot be written.
    """
    standing = is_there(cache.path / "cache.json", cache.path)
    if not standing or Cache.open(cache.path).owner != cache.owner:
        raise C4CError(
            f"{cache.path} was removed or begun anew, with other settings, since this run began; "
            "what it makes does not belong there."
        )
    write_shard(path, shard, cache.owner)


class Cache:
    """A cache folder, opened for reading.

    Attributes:
        path: the folder.
        dataset: the dataset's name.
        fingerprint: what made the features.
    """

    def __init__(self, path: Path, dataset: str, fingerprint: Fingerprint) -> None:
        self.path, self.dataset, self.fingerprint = path, dataset, fingerprint

    def __repr__(self) -> str:
        try:
            splits = (f"{name} {len(one.clips)}" for name, one in self.manifests.items())
            held = ", ".join(splits) or "no split yet"
        except C4CError:
            held = "plans that cannot be read"
        return f"Cache('{self.path}', {self.dataset}, {self.fingerprint.model}, clips: {held})"

    @classmethod
    def open(cls, path: Path | str) -> Cache:
        """Open a cache.

        Raises:
            C4CError: there is none at ``path``, or its description cannot be read.
            NewerVersion: it was made by a later c4c.
        """
        path = Path(path)
        if not is_there(path / "cache.json", path):
            raise C4CError(f"{path} is not a feature cache (no cache.json); run c4c extract first.")
        remedy = "put back a copy of it, or extract anew into another --cache"
        held = read_record(path / "cache.json", _CacheFile, SCHEMA, remedy)
        return cls(path, held.dataset, held.fingerprint)

    @cached_property
    def owner(self) -> Owner:
        """What binds the cache's files to it."""
        return Owner(self.path, identity_of(self.dataset, self.fingerprint))

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """The manifest that holds for each split."""
        return load_manifests(self.path)

    def __reduce__(self) -> tuple[object, ...]:
        return Cache.open, (self.path,)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that extraction was begun for."""
        return tuple(self.manifests)

    @property
    def features(self) -> str:
        """``final``, or ``hidden`` for features before CLIP's projections."""
        return self.fingerprint.features

    @cached_property
    def dim(self) -> int:
        """D: channels in which CLIP compares frames and texts, after its projections.

        Raises:
            C4CError: the cache does not hold them.
        """
        init = self.head_init()
        found = init.get("visual_proj")
        if found is None and "embed_dim" in init:  # a tower that ends in no projection
            return int(init["embed_dim"])
        if found is None or found.ndim != 2:
            raise C4CError(f"{self.path}/head-init.safetensors lacks visual_proj; extract again.")
        return int(found.shape[1])

    def require_features(self, projected: bool) -> None:
        """Refuse a head that was not made for this cache's features.

        Args:
            projected: whether the head has projections of its own, for hidden features.

        Raises:
            C4CError: the features are of the other kind.
        """
        if projected == (self.features == "hidden"):
            return
        if projected:
            raise C4CError(
                f"{self.path} holds features after CLIP's projections, and the head brings its "
                "own; extract with --features hidden."
            )
        raise C4CError(
            f"{self.path} holds features before CLIP's projections, where text and video cannot "
            "be compared, and the head brings none; extract with --features final."
        )

    def head_init(self) -> dict[str, torch.Tensor]:
        """What heads start from (``Backbone.head_init``), as the extraction stored it.

        Raises:
            C4CError: the file does not exist, is damaged, or is another backbone's.
        """
        return read_head_init(self.path, self.fingerprint.sha256)[0]

    def stamps(self, split: str | None = None) -> dict[str, str]:
        """Stamps of the videos of one split, or of all, by path; caches made before have none.

        Raises:
            C4CError: no such split.
        """
        return {path: one for m in self._chosen(split) for path, one in m.files.items()}

    @property
    def complete(self) -> bool:
        """Whether every shard of clips that a plan names is there."""
        return all(
            is_there(manifest.shard_path(self.path, part, "clips"), self.path)
            for manifest in self.manifests.values()
            for part in manifest.parts
        )

    def clips(
        self, split: str | None = None, *, incomplete: bool = False, captioned: bool = False
    ) -> ClipFeatures:
        """Clip features of one split, or of all.

        Args:
            split: its name; ``None`` is all.
            incomplete: give what is there while an extraction runs, or after it was stopped;
                ``pending`` of the view names the rest.
            captioned: leave out clips without a caption.

        Raises:
            C4CError: no such split, or shards that are missing or damaged.
        """
        return open_clips(self.owner, self._chosen(split), incomplete, captioned)

    def captions(self, split: str | None = None) -> CaptionFeatures:
        """Caption features of one split, or of all.

        Raises:
            C4CError: no such split, or shards that are missing or damaged.
        """
        return open_captions(self.owner, self._chosen(split))

    def _chosen(self, split: str | None) -> list[Manifest]:
        if split is None:
            return list(self.manifests.values())
        if split not in self.manifests:
            known = ", ".join(self.splits) or "none"
            raise C4CError(f"{self.path} has no split '{split}'. It has {known}.")
        return [self.manifests[split]]
