"""Reading a cache: no lock, memory-mapped, safe in forked and spawned processes alike."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.errors import C4CError
from c4c.extract.manifest import Manifest, load_manifests
from c4c.extract.views import CaptionFeatures, ClipFeatures, Failure, open_view
from c4c.files import json_bytes, read_json, write_once
from c4c.records import Fingerprint

if TYPE_CHECKING:
    import torch

__all__ = ["Cache", "CaptionFeatures", "ClipFeatures", "Failure", "create_cache", "find_cache"]

SCHEMA = 1
DEFAULT = Path("c4c-cache")


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


def create_cache(path: Path, dataset: str, fingerprint: Fingerprint) -> None:
    """Make the cache folder, or check that the one there was made in the same way.

    Raises:
        C4CError: it holds another dataset, or features made otherwise (and how they differ).
    """
    if not (path / "cache.json").exists():
        content = {"schema": SCHEMA, "dataset": dataset, "fingerprint": asdict(fingerprint)}
        # Of two runs that begin at once the first one's settings hold.
        write_once(path / "cache.json", json_bytes(content), path / "tmp")
    cache = Cache.open(path)
    if cache.dataset != dataset:
        raise C4CError(f"{path} is a cache of {cache.dataset}; pass another --cache.")
    differing = fingerprint.differences(cache.fingerprint)
    if differing:
        raise C4CError(
            f"{path} was made with other settings (now, there: {'; '.join(differing)}); "
            "pass another --cache, or the settings it was made with."
        )


class Cache:
    """A cache folder, opened for reading.

    Attributes:
        path: the folder.
        dataset: the dataset's name.
        fingerprint: what made the features.
    """

    def __init__(self, path: Path, dataset: str, fingerprint: Fingerprint) -> None:
        self.path, self.dataset, self.fingerprint = path, dataset, fingerprint

    @classmethod
    def open(cls, path: Path | str) -> Cache:
        """Open a cache.

        Raises:
            C4CError: there is none at ``path``, or it is of another schema.
        """
        path = Path(path)
        if not (path / "cache.json").is_file():
            raise C4CError(f"{path} is not a feature cache (no cache.json); run c4c extract first.")
        content = read_json(path / "cache.json")
        try:
            schema = content["schema"]
            if schema != SCHEMA:
                raise C4CError(f"{path} has schema {schema}, this c4c reads {SCHEMA}; upgrade c4c?")
            unknown = set(content["fingerprint"]) - {one.name for one in fields(Fingerprint)}
            if unknown:
                names = ", ".join(sorted(unknown))
                raise C4CError(f"{path} was made by a newer c4c (it records: {names}); upgrade.")
            return cls(path, str(content["dataset"]), Fingerprint(**content["fingerprint"]))
        except (KeyError, TypeError) as error:
            raise C4CError(f"{path}/cache.json is damaged ({error!r}).") from None

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
        found = self.head_init().get("visual_proj")
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
            C4CError: the file is not there or damaged.
        """
        from safetensors.torch import load_file

        path = self.path / "head-init.safetensors"
        try:
            found: dict[str, torch.Tensor] = load_file(path)
            return found
        except Exception as error:  # safetensors has an error type of its own
            raise C4CError(f"{path} cannot be read ({error}); extract again.") from None

    def stamps(self, split: str | None = None) -> dict[str, str]:
        """Stamps of the videos of one split, or of all, by path; caches made before have none.

        Raises:
            C4CError: no such split.
        """
        return {path: one for m in self._chosen(split) for path, one in m.files.items()}

    def clips(self, split: str | None = None) -> ClipFeatures:
        """Clip features of one split, or of all.

        Raises:
            C4CError: no such split, or shards that are missing or damaged.
        """
        return open_view(ClipFeatures, self.path, self._chosen(split))

    def captions(self, split: str | None = None) -> CaptionFeatures:
        """Caption features of one split, or of all.

        Raises:
            C4CError: no such split, or shards that are missing or damaged.
        """
        return open_view(CaptionFeatures, self.path, self._chosen(split))

    def _chosen(self, split: str | None) -> list[Manifest]:
        if split is None:
            return list(self.manifests.values())
        if split not in self.manifests:
            known = ", ".join(self.splits) or "none"
            raise C4CError(f"{self.path} has no split '{split}'. It has {known}.")
        return [self.manifests[split]]
