"""Reading a cache: no lock, memory-mapped, safe in forked and spawned processes alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c4c.errors import C4CError
from c4c.extract.manifest import Manifest, Part, load_manifests
from c4c.extract.shards import STATUS, Shard, read_shard
from c4c.files import read_json, write_json
from c4c.records import Caption, Clip, FeatureBatch, Fingerprint
from c4c.sampling import order_frames, select_frames

if TYPE_CHECKING:
    import torch

SCHEMA = 1
DEFAULT = Path("c4c-cache")


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip without features: its id, status and what went wrong."""

    clip_id: str
    status: str
    message: str


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
    if (path / "cache.json").exists():
        cache = Cache.open(path)
        if cache.dataset != dataset:
            raise C4CError(f"{path} is a cache of {cache.dataset}; pass another --cache.")
        differing = fingerprint.differences(cache.fingerprint)
        if differing:
            raise C4CError(
                f"{path} was made with other settings (now, there: {'; '.join(differing)}); "
                "pass another --cache, or the settings it was made with."
            )
        return
    content = {"schema": SCHEMA, "dataset": dataset, "fingerprint": asdict(fingerprint)}
    write_json(path / "cache.json", content)


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
            return cls(path, str(content["dataset"]), Fingerprint(**content["fingerprint"]))
        except (KeyError, TypeError) as error:
            raise C4CError(f"{path}/cache.json is damaged ({error!r}).") from None

    @cached_property
    def manifests(self) -> dict[str, Manifest]:
        """The manifest that holds for each split."""
        return load_manifests(self.path)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that extraction was begun for."""
        return tuple(self.manifests)

    @property
    def features(self) -> str:
        """``final``, or ``hidden`` for features before CLIP's projections."""
        return self.fingerprint.features

    def require_final(self) -> None:
        """Refuse features that heads cannot compare.

        Raises:
            C4CError: they are hidden ones: the two towers' channels mean different things.
        """
        if self.features != "final":
            raise C4CError(
                f"{self.path} holds features before CLIP's projections (--features hidden): text "
                "and video cannot be compared there; extract with --features final."
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

    def clips(self, split: str | None = None) -> ClipFeatures:
        """Clip features of one split, or of all.

        Raises:
            C4CError: no such split, or shards that are missing or damaged.
        """
        return ClipFeatures(self, self._chosen(split))

    def captions(self, split: str | None = None) -> CaptionFeatures:
        """Caption features of one split, or of all.

        Raises:
            C4CError: no such split, or shards that are missing or damaged.
        """
        return CaptionFeatures(self, self._chosen(split))

    def _chosen(self, split: str | None) -> list[Manifest]:
        if split is None:
            return list(self.manifests.values())
        if split not in self.manifests:
            known = ", ".join(self.splits) or "none"
            raise C4CError(f"{self.path} has no split '{split}'. It has {known}.")
        return [self.manifests[split]]


def _rows(
    cache: Cache, manifests: Sequence[Manifest], kind: str
) -> tuple[list[Shard], dict[tuple[str, str], tuple[int, int]]]:
    """Shards, and for each (split, id) its shard and row."""
    shards: list[Shard] = []
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for manifest in manifests:
        parts: tuple[Part, ...] = manifest.parts if kind == "clips" else manifest.caption_parts
        gone = [p for p in parts if not manifest.shard_path(cache.path, p, kind).exists()]
        if gone:
            raise C4CError(
                f"{cache.path}: {len(gone)} of {len(parts)} {kind} shards of split "
                f"'{manifest.split}' are missing (first {gone[0].name}); run the same "
                "c4c extract again to complete it."
            )
        for part in parts:
            shard = read_shard(manifest.shard_path(cache.path, part, kind))
            row_of = {name: row for row, name in enumerate(shard.texts["ids"])}
            for name in part.ids:
                if name not in row_of or (manifest.split, name) in places:
                    raise C4CError(f"{cache.path}: shard {part.name} does not fit its manifest.")
                places[manifest.split, name] = (len(shards), row_of[name])
            shards.append(shard)
    return shards, places


class ClipFeatures:
    """Frame features of clips.

    Attributes:
        clips: the clips that have features, sorted by id within a split.
        ids: their ids.
        lengths: int64 [N], frames of each.
        dim: D.
        missing: ids of annotated clips whose video was not there.
        failed: clips that could not be extracted.
        twins: clip id to the id of its twin.
    """

    def __init__(self, cache: Cache, manifests: Sequence[Manifest]) -> None:
        self._shards, places = _rows(cache, manifests, "clips")
        self.missing = tuple(name for manifest in manifests for name in manifest.missing)
        self.twins = {a: b for manifest in manifests for a, b in manifest.twins.items()}
        clips: list[Clip] = []
        failed: list[Failure] = []
        self._place: list[tuple[int, int]] = []
        for manifest in manifests:
            for clip in manifest.clips:
                shard, row = places[manifest.split, clip.id]
                if self._shards[shard].offsets[row + 1] > self._shards[shard].offsets[row]:
                    clips.append(clip)
                    self._place.append((shard, row))
                else:
                    failed.append(self._failure(clip.id, shard, row))
        self.clips, self.failed = tuple(clips), tuple(failed)
        self.ids = tuple(clip.id for clip in clips)
        self._bounds = np.array(
            [self._shards[s].offsets[r : r + 2] for s, r in self._place], np.int64
        ).reshape(-1, 2)
        self.lengths: npt.NDArray[np.int64] = self._bounds[:, 1] - self._bounds[:, 0]
        self.dim = self._shards[0].features.shape[1] if self._shards else 0

    def _failure(self, name: str, shard: int, row: int) -> Failure:
        held = self._shards[shard]
        return Failure(name, STATUS[held.status[row]], held.texts["messages"][row])

    @property
    def expected(self) -> int:
        """How many clips the annotations name."""
        return len(self.clips) + len(self.failed) + len(self.missing)

    def __len__(self) -> int:
        return len(self.clips)

    def read(self, index: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]:
        """Features [F, D] and times [F] of one clip, as views of the file."""
        first, last = self._bounds[index]
        shard = self._shards[self._place[index][0]]
        return shard.features[first:last], shard.times[first:last]

    def batch(
        self,
        indices: Sequence[int] | npt.NDArray[np.int64],
        max_frames: int | None = None,
        sampling: str = "uniform",
        order: str = "ordinary",
        generator: np.random.Generator | None = None,
    ) -> FeatureBatch:
        """Frame features of some clips, padded with zeros.

        Args:
            indices: places in ``clips``.
            max_frames: frames of a clip at most; ``None`` is all.
            sampling: which ones when there are more (``core/sampling.py``).
            order: of the frames.
            generator: for the order ``random``.

        Returns:
            float32 features [B, T, D] and their lengths.
        """
        import torch

        rows = []
        for index in indices:
            row, _ = self.read(int(index))
            if max_frames is not None and len(row) > max_frames:
                row = row[select_frames(len(row), max_frames, sampling)]
            if order != "ordinary":
                row = row[order_frames(np.arange(len(row)), order, generator)]
            rows.append(row)
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        longest = int(lengths.max()) if rows else 0
        features = np.zeros((len(rows), longest, self.dim), np.float32)
        for place, row in enumerate(rows):
            features[place, : len(row)] = row
        return FeatureBatch(torch.from_numpy(features), lengths)


class CaptionFeatures:
    """Text features of captions.

    Attributes:
        captions: every caption, in the annotations' order within a split.
        clip_ids: the clip of each.
        features: float16 [N, D].
    """

    def __init__(self, cache: Cache, manifests: Sequence[Manifest]) -> None:
        shards, places = _rows(cache, manifests, "captions")
        self.captions: tuple[Caption, ...] = tuple(c for m in manifests for c in m.captions)
        self.clip_ids = tuple(caption.clip_id for caption in self.captions)
        wanted = [places[m.split, caption.id] for m in manifests for caption in m.captions]
        rows: list[Any] = [shards[shard].row(row) for shard, row in wanted]
        dim = shards[0].features.shape[1] if shards else 0
        self.features: npt.NDArray[np.float16] = np.concatenate(
            [np.zeros((0, dim), np.float16), *rows]
        )

    def __len__(self) -> int:
        return len(self.captions)

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
        """Text features of some captions, float32 [n, D]."""
        import torch

        return torch.from_numpy(self.features[np.asarray(indices)].astype(np.float32))
