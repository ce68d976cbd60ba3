"""Writing a cache of features that something else than ``c4c extract`` has made.

Shards are committed as they fill, each verified, and the plan that names them last: without it
the split does not exist. So a writer that is killed leaves no half of a split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.cache.head_init import save_head_init
from c4c.cache.manifests import save_manifest
from c4c.cache.open import Cache, commit_shard, create_cache
from c4c.cache.plan import Manifest, Part, part_name, safe_name
from c4c.cache.shard import make_shard
from c4c.cache.stamps import file_stamps
from c4c.core.errors import C4CError
from c4c.core.records import Caption, Clip, Fingerprint

_SHARD = 64 << 20  # bytes of features that wait to be written together


@dataclass
class _Rows:
    """Rows of one kind that wait, and the parts that were written."""

    kind: str
    records: list[Any] = field(default_factory=list)
    rows: list[npt.NDArray[np.float16]] = field(default_factory=list)
    times: list[npt.NDArray[np.float32]] = field(default_factory=list)
    bytes: int = 0
    parts: list[Part] = field(default_factory=list)


class CacheWriter:
    """Puts one's own features of clips and captions into a cache, one split at a time.

    >>> import numpy as np, c4c
    >>> with c4c.CacheWriter("mine", "birds", {"model": "my-encoder", "weights": "v3"}) as writer:
    ...     writer.add_clip("wren", np.ones((4, 8)), times=[0, 1, 2, 3])
    ...     writer.add_caption("wren", "a wren sings", np.ones(8))
    >>> writer.cache.clips("all")
    ClipFeatures(1 clips, 4 frames, dim 8)

    Args:
        path: the cache folder; other splits of the same features may be there already.
        dataset: the dataset's name, any text.
        fingerprint: what made the features, so that caches mix only when it agrees. Fields are
            those of ``c4c.core.records.Fingerprint``; ``model`` is needed, others are empty when
            they are not given, and ``sha256`` then is that of the rest.
        split: the split's name.

    Raises:
        C4CError: the folder holds other features, or this split already.
    """

    def __init__(
        self,
        path: str | Path,
        dataset: str,
        fingerprint: Fingerprint | Mapping[str, Any],
        split: str = "all",
    ) -> None:
        self.path, self.dataset, self.split = Path(path), dataset, split
        self.cache = create_cache(self.path, dataset, _fingerprint(fingerprint))
        if split in self.cache.manifests:
            raise C4CError(f"{path} has a split '{split}'; name another split, or another folder.")
        self.dim = 0
        self._clips, self._captions = _Rows("clips"), _Rows("captions")
        self._all_clips: dict[str, Clip] = {}
        self._all_captions: dict[str, Caption] = {}

    def __repr__(self) -> str:
        return (
            f"CacheWriter({str(self.path)!r}, split {self.split!r}: {len(self._all_clips)} clips, "
            f"{len(self._all_captions)} captions, dim {self.dim})"
        )

    def add_clip(
        self,
        id: str,  # noqa: A002
        features: npt.ArrayLike,
        times: npt.ArrayLike,
        path: str = "",
        start: float = 0.0,
        end: float | None = None,
    ) -> None:
        """Add a clip.

        Args:
            id: unique within the split.
            features: [F, D], one row a frame, F at least 1; stored as float16.
            times: [F], seconds from the start of the clip, increasing.
            path: the video file, by which clips that were trained on are recognised; by default
                the clip is a video of its own, called by its id.
            start: where the clip begins in it, in seconds.
            end: where it ends; ``None`` is the end of the video.

        Raises:
            C4CError: an id that is taken, or arrays of another shape or without sense.
        """
        if id in self._all_clips:
            raise C4CError(f"{self.path}: duplicate clip id '{id}'.")
        clip = Clip(id, path or id, start, end)
        row = self._row(features, f"clip '{id}'")
        seconds = np.asarray(times, np.float32)
        if seconds.shape != (len(row),) or not np.isfinite(seconds).all():
            raise C4CError(
                f"Clip '{id}': times are {seconds.shape}, expected ({len(row)},) numbers."
            )
        if (np.diff(seconds) <= 0).any() or seconds[0] < 0:
            raise C4CError(f"Clip '{id}': times must increase, from 0 seconds or later.")
        self._all_clips[id] = clip
        self._add(self._clips, clip, row, seconds)

    def add_caption(
        self,
        clip_id: str,
        text: str,
        features: npt.ArrayLike,
        id: str | None = None,  # noqa: A002
    ) -> None:
        """Add a caption of a clip, which may be added later.

        Args:
            clip_id: the clip it describes.
            text: what it says.
            features: [D], of the same space as the frames'.
            id: unique within the split; by default the clip's id and a number.

        Raises:
            C4CError: an id that is taken, an empty text, or features of another shape.
        """
        name = id if id is not None else f"{clip_id}#{len(self._all_captions)}"
        if name in self._all_captions:
            raise C4CError(f"{self.path}: duplicate caption id '{name}'.")
        caption = Caption(name, clip_id, text.strip())
        if np.ndim(features) != 1:
            raise C4CError(f"caption '{name}': features are {np.shape(features)}, expected [D].")
        row = self._row(np.asarray(features)[None], f"caption '{name}'")
        self._all_captions[name] = caption
        self._add(self._captions, caption, row, np.zeros(1, np.float32))

    def close(self) -> Cache:
        """Write what waits and the plan that names it; the split exists from then on.

        Returns:
            The cache, opened anew.

        Raises:
            C4CError: no clip, a caption of a clip that was not added, or a disk that fails.
        """
        strays = [one for one in self._all_captions.values() if one.clip_id not in self._all_clips]
        if strays:
            raise C4CError(
                f"{self.path}: caption '{strays[0].id}' is of clip '{strays[0].clip_id}', which "
                "was not added."
            )
        if not self._all_clips:
            raise C4CError(f"{self.path}: no clip was added to split '{self.split}'.")
        for rows in (self._clips, self._captions):
            self._flush(rows)
        # Heads ask for CLIP's projections to know the width; these features are behind them.
        save_head_init(self.path, _identities(self.dim), self.cache.fingerprint.sha256)
        clips = tuple(sorted(self._all_clips.values(), key=lambda clip: clip.id))
        manifest = Manifest(
            dataset=self.dataset,
            split=self.split,
            number=1,
            clips=clips,
            captions=tuple(self._all_captions.values()),
            missing=(),
            twins={},
            parts=tuple(self._clips.parts),
            caption_parts=tuple(self._captions.parts),
            files=file_stamps(clip.path for clip in clips),
        )
        save_manifest(self.path, manifest)
        self.cache = Cache.open(self.path)
        return self.cache

    def __enter__(self) -> CacheWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()

    def _row(self, features: npt.ArrayLike, what: str) -> npt.NDArray[np.float16]:
        """Features as they are stored, checked."""
        given = np.asarray(features)
        if given.ndim != 2 or not len(given) or given.dtype.kind not in "fiu":
            kind = f"{given.dtype} {list(given.shape)}"
            raise C4CError(f"{what}: features are {kind}, expected numbers [F, D].")
        if self.dim and given.shape[1] != self.dim:
            raise C4CError(f"{what}: {given.shape[1]} channels, and those before have {self.dim}.")
        with np.errstate(over="ignore"):
            row = given.astype(np.float16)
        if not np.isfinite(row).all():
            raise C4CError(f"{what}: features are not finite, or too large for float16 (65504).")
        self.dim = given.shape[1]
        return row

    def _add(
        self,
        rows: _Rows,
        record: Clip | Caption,
        row: npt.NDArray[np.float16],
        times: npt.NDArray[np.float32],
    ) -> None:
        rows.records.append(record)
        rows.rows.append(row)
        rows.times.append(times)
        rows.bytes += row.nbytes
        if rows.bytes >= _SHARD:
            self._flush(rows)

    def _flush(self, rows: _Rows) -> None:
        """Commit what waits as one shard, named by what is in it."""
        if not rows.records:
            return
        content = [f"{one!r} {hashlib.sha256(row.tobytes()).hexdigest()}"
                   for one, row in zip(rows.records, rows.rows, strict=True)]  # fmt: skip
        part = Part(part_name(0, len(rows.parts), content), tuple(one.id for one in rows.records))
        texts = {"ids": list(part.ids), "messages": [""] * len(part.ids)}
        if rows.kind == "captions":
            texts["clip_ids"] = [one.clip_id for one in rows.records]
            texts["texts"] = [one.text for one in rows.records]
        status = ["ok"] * len(part.ids)
        shard = make_shard(rows.kind, rows.rows, rows.times, status, texts, self.dim)
        path = self.path / "shards" / safe_name(self.split) / rows.kind / part.name
        commit_shard(self.cache, path, shard)
        rows.parts.append(part)
        rows.records, rows.rows, rows.times, rows.bytes = [], [], [], 0


def _fingerprint(given: Fingerprint | Mapping[str, Any]) -> Fingerprint:
    """What made the features, from what is known of it.

    Raises:
        C4CError: an unknown field, or no model.
    """
    if isinstance(given, Fingerprint):
        return given
    known = [one.name for one in fields(Fingerprint)]
    unknown = sorted(set(given) - set(known))
    if unknown or not given.get("model"):
        wrong = f"unknown field '{unknown[0]}'" if unknown else "no model"
        raise C4CError(f"Fingerprint: {wrong}; fields are {', '.join(known)}.")
    empty = dict.fromkeys(("weights", "preprocessing", "sampling", "decoder", "dtype"), "")
    said = json.dumps(dict(given), sort_keys=True, default=str)
    digest = hashlib.sha256(said.encode()).hexdigest()
    return Fingerprint(**{**empty, "sha256": digest, **given})


def _identities(dim: int) -> dict[str, Any]:
    import torch

    return {name: torch.eye(dim) for name in ("visual_proj", "text_proj")}
