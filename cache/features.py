"""What readers see of a cache: features of clips and captions, across its shards.

No lock is taken and no file stays open, so a view may be forked; pickled (for a spawned
process) it carries its plan and maps the shards anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from c4c.cache.findings import Failure
from c4c.cache.identity import Owner
from c4c.cache.manifests import load_manifests
from c4c.cache.plan import Manifest
from c4c.cache.rows import ShardsMissing, find_rows
from c4c.cache.shard import STATUS
from c4c.core.errors import C4CError, Damaged
from c4c.core.records import Caption, Clip, FeatureBatch
from c4c.core.sampling import View

if TYPE_CHECKING:
    import torch


class ClipFeatures:
    """Frame features of clips.

    Attributes:
        clips: the clips that have features, sorted by id within a split.
        ids: their ids.
        lengths: int64 [N], frames of each.
        dim: D.
        missing: ids of annotated clips whose video was not there.
        failed: clips that could not be extracted.
        pending: ids of clips that are still to be extracted; of a view of what is there only.
        twins: clip id to the id of its twin.
    """

    def __init__(
        self,
        owner: Owner,
        manifests: Sequence[Manifest],
        incomplete: bool = False,
        captioned: bool = False,
    ) -> None:
        self._made_of = (owner, manifests, incomplete, captioned)
        self._shards, places = find_rows(owner, manifests, "clips", incomplete)
        self.missing = tuple(name for manifest in manifests for name in manifest.missing)
        pending: list[str] = []
        self.twins = {a: b for manifest in manifests for a, b in manifest.twins.items()}
        clips: list[Clip] = []
        failed: list[Failure] = []
        self._place: list[tuple[int, int]] = []
        for manifest in manifests:
            described = {caption.clip_id for caption in manifest.captions}
            for clip in manifest.clips:
                if captioned and clip.id not in described:
                    continue
                if (manifest.split, clip.id) not in places:
                    pending.append(clip.id)
                    continue
                shard, row = places[manifest.split, clip.id]
                if self._shards[shard].offsets[row + 1] > self._shards[shard].offsets[row]:
                    clips.append(clip)
                    self._place.append((shard, row))
                else:
                    failed.append(self._failure(clip.id, shard, row))
        self.clips, self.failed, self.pending = tuple(clips), tuple(failed), tuple(pending)
        self.ids = tuple(clip.id for clip in clips)
        ends = [shard.offsets.tolist() for shard in self._shards]
        self._bounds = [(ends[shard][row], ends[shard][row + 1]) for shard, row in self._place]
        self.lengths: npt.NDArray[np.int64] = np.array([b - a for a, b in self._bounds], np.int64)
        self.dim = self._shards[0].features.shape[1] if self._shards else 0
        self._checked = np.zeros(len(clips), np.bool_)

    def __reduce__(self) -> tuple[object, ...]:
        return open_clips, self._made_of

    def __repr__(self) -> str:
        return f"ClipFeatures({len(self)} clips, {int(self.lengths.sum())} frames, dim {self.dim})"

    def _failure(self, name: str, shard: int, row: int) -> Failure:
        held = self._shards[shard]
        return Failure(name, STATUS[held.status[row]], held.texts["messages"][row])

    @property
    def path(self) -> Path:
        """The cache folder."""
        return self._made_of[0].path

    @property
    def expected(self) -> int:
        """How many clips the annotations name."""
        return len(self.clips) + len(self.failed) + len(self.missing) + len(self.pending)

    @property
    def noted(self) -> tuple[Failure, ...]:
        """Clips that have features, and of which something is to be said: partial ones, HDR."""
        rows = zip(self.ids, self._place, strict=True)
        notes = (self._failure(name, shard, row) for name, (shard, row) in rows)
        return tuple(note for note in notes if note.message or note.status == "partial")

    @property
    def partial(self) -> dict[str, str]:
        """Clips of which a part could be decoded: their ids, and what was wrong."""
        return {note.clip_id: note.message for note in self.noted if note.status == "partial"}

    @property
    def decoders(self) -> tuple[str, ...]:
        """Versions of the decoder that made some of the clips, beside the cache's own."""
        return tuple(sorted({shard.decoder for shard in self._shards} - {""}))

    def __len__(self) -> int:
        return len(self.clips)

    def state(self, index: int) -> tuple[int, bool]:
        """The checksum of a clip's row, and whether its decoding stopped early."""
        number, row = self._place[index]
        shard = self._shards[number]
        return int(shard.crc32[row]), STATUS[shard.status[row]] == "partial"

    def read(self, index: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]:
        """Features [F, D] and times [F] of one clip, as views of the file.

        Its bytes are compared with their checksum when it is read for the first time.

        Raises:
            Damaged: they differ.
        """
        first, last = self._bounds[index]
        number, row = self._place[index]
        shard = self._shards[number]
        if not self._checked[index]:
            if not shard.intact(row):
                raise Damaged(
                    f"{self.path}: the bytes of '{self.ids[index]}' differ from their checksum; "
                    "c4c cache verify --repair sets its shard aside, and extraction makes it anew."
                )
            self._checked[index] = True
        return shard.features[first:last], shard.times[first:last]

    def batch(
        self,
        indices: Sequence[int] | npt.NDArray[np.int64],
        view: View = View(),  # noqa: B008  # it is frozen
        generator: np.random.Generator | None = None,
    ) -> FeatureBatch:
        """Frame features of some clips, padded with zeros.

        Args:
            indices: places in ``clips``.
            view: which frames, and in which order.
            generator: for the order ``random``; by default of the view's seed and the first place.

        Returns:
            float32 features [B, T, D] and their lengths.
        """
        import torch

        places = np.asarray(indices, np.int64).tolist()
        generator = generator or np.random.default_rng([view.seed, *places[:1]])
        rows = []
        for index in places:
            rows.append(view.seen(*self.read(index), generator))
        lengths = [len(row) for row in rows]
        packed = np.zeros((len(rows), max(lengths, default=0), self.dim), np.float16)
        for place, row in enumerate(rows):
            packed[place, : len(row)] = row
        features = torch.from_numpy(packed).float()
        if not torch.isfinite(features.sum()):  # a sum of halves cannot overflow a float
            wrong = next(
                i for i, row in zip(indices, rows, strict=True) if not np.isfinite(row).all()
            )
            raise C4CError(f"{self.path}: features of '{self.ids[wrong]}' are not finite.")
        return FeatureBatch(features, torch.tensor(lengths, dtype=torch.int64))


class CaptionFeatures:
    """Text features of captions.

    Attributes:
        captions: every caption, in the annotations' order within a split.
        clip_ids: the clip of each.
        features: float16 [N, D].
    """

    def __init__(self, owner: Owner, manifests: Sequence[Manifest]) -> None:
        self._made_of = (owner, manifests)
        shards, places = find_rows(owner, manifests, "captions")
        self.captions: tuple[Caption, ...] = tuple(c for m in manifests for c in m.captions)
        self.clip_ids = tuple(caption.clip_id for caption in self.captions)
        wanted = [places[m.split, caption.id] for m in manifests for caption in m.captions]
        rows = [shards[shard].row(row) for shard, row in wanted]
        dim = shards[0].features.shape[1] if shards else 0
        self.features: npt.NDArray[np.float16] = np.concatenate(
            [np.zeros((0, dim), np.float16), *rows]
        )
        if any(len(row) != 1 or not np.isfinite(row).all() for row in rows):
            raise C4CError(
                f"{owner.path}: a caption's features are missing or not finite; verify it."
            )

    def __reduce__(self) -> tuple[object, ...]:
        return open_captions, self._made_of

    def __repr__(self) -> str:
        return f"CaptionFeatures({len(self)} captions, dim {self.features.shape[1]})"

    def __len__(self) -> int:
        return len(self.captions)

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
        """Text features of some captions, float32 [n, D]."""
        import torch

        return torch.from_numpy(self.features[np.asarray(indices)].astype(np.float32))


Features = TypeVar("Features", ClipFeatures, CaptionFeatures)


def open_clips(
    owner: Owner,
    manifests: Sequence[Manifest],
    incomplete: bool = False,
    captioned: bool = False,
) -> ClipFeatures:
    """Clips that ``manifests`` name, wherever a compaction has moved them meanwhile.

    Args:
        owner: the cache.
        manifests: the plans of the splits wanted.
        incomplete: give what is there when shards are missing; ``pending`` names the rest.
        captioned: leave out clips without a caption.

    Raises:
        C4CError: shards that are missing, damaged, or another cache's.
    """
    if not incomplete:
        return _view(ClipFeatures, owner, manifests, False, captioned)
    while True:
        try:
            view = ClipFeatures(owner, manifests, True, captioned)
            if not view.pending:
                return view
            problem = None
        except C4CError as error:
            problem = error
        # What is not there may have been moved by a compaction, which a newer plan says.
        fresh = _newest(owner, manifests)
        if fresh != list(manifests):
            manifests = fresh
        elif problem is not None:
            raise problem
        else:
            return view


def open_captions(owner: Owner, manifests: Sequence[Manifest]) -> CaptionFeatures:
    """Captions that ``manifests`` name, likewise.

    Raises:
        C4CError: shards that are missing, damaged, or another cache's.
    """
    return _view(CaptionFeatures, owner, manifests)


def _view(
    kind: type[Features], owner: Owner, manifests: Sequence[Manifest], *more: bool
) -> Features:
    try:
        return kind(owner, manifests, *more)
    except ShardsMissing:
        fresh = _newest(owner, manifests)
        same = all(
            a.clips == b.clips and a.captions == b.captions
            for a, b in zip(fresh, manifests, strict=True)
        )
        if fresh == list(manifests) or not same:
            raise
        return kind(owner, fresh, *more)


def _newest(owner: Owner, manifests: Sequence[Manifest]) -> list[Manifest]:
    now = load_manifests(owner.path)
    return [now.get(one.split, one) for one in manifests]
