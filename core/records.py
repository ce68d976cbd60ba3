"""The records that flow from room to room: small, frozen, checked where they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from c4c.core.errors import C4CError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of one video file.

    Attributes:
        id: unique within a dataset split; any printable text, never used as a path.
        path: the video file.
        start: where the clip begins, in seconds of the video.
        end: where it ends, in seconds; ``None`` is the end of the video.
    """

    id: str
    path: str
    start: float = 0.0
    end: float | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise C4CError(f"A clip of '{self.path}' has an empty id; give every clip a name.")
        if "\0" in self.path:
            raise C4CError(f"Clip '{self.id}': its path holds a NUL character, which no path has.")
        _check_span(self.id, self.start, self.end)


def _check_span(name: str, start: float, end: float | None) -> None:
    if not (math.isfinite(start) and start >= 0):
        raise C4CError(f"Clip '{name}': start is {start}, expected seconds >= 0.")
    if end is not None and not (math.isfinite(end) and end > start):
        raise C4CError(f"Clip '{name}': end is {end}, expected seconds after start ({start}).")


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence (or paragraph) that describes one clip.

    Attributes:
        id: unique within a dataset split.
        clip_id: the clip it describes.
        text: what it says, stripped; never empty.
    """

    id: str
    clip_id: str
    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise C4CError(f"Caption '{self.id}' of clip '{self.clip_id}' is empty.")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One split of a benchmark, or a folder of videos: what every loader returns.

    Attributes:
        name: the dataset's name in the registry.
        split: the split's name.
        clips: the clips whose video was found, sorted by id.
        captions: captions of those clips, in the annotations' order.
        missing: ids of annotated clips without a video: a gallery that lacks them is not
            comparable, so every figure says how many there are.
        twins: for synthetic benchmarks, clip id to the id of its twin (the same events in
            another order).
        notes: what the loader noticed (counts that differ, duplicates), a line each.
        unseen: captions of the missing clips: what the annotations hold is known without videos.
    """

    name: str
    split: str
    clips: tuple[Clip, ...]
    captions: tuple[Caption, ...] = ()
    missing: tuple[str, ...] = ()
    twins: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unseen: tuple[Caption, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for clip in self.clips:
            if clip.id in seen:
                raise C4CError(f"{self.name} {self.split}: clip id '{clip.id}' stands twice.")
            seen.add(clip.id)
        for caption in self.captions:
            if caption.clip_id not in seen:
                raise C4CError(
                    f"{self.name} {self.split}: caption '{caption.id}' is of clip "
                    f"'{caption.clip_id}', which is not there."
                )


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames of one clip.

    Attributes:
        pixels: uint8 [n, H, W, 3], RGB, upright (rotation applied).
        times: float32 [n], seconds from the start of the clip, increasing.
    """

    pixels: npt.NDArray[np.uint8]
    times: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.ndim != 4 or shape[3] != 3 or str(self.pixels.dtype) != "uint8":
            raise ValueError(f"pixels are {shape} {self.pixels.dtype}, expected uint8 [n, H, W, 3]")
        if self.times.shape != shape[:1]:
            raise ValueError(f"times are {self.times.shape}, expected [{shape[0]}]")

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        span = f", {self.times[0]:g} to {self.times[-1]:g} s" if len(self) else ""
        return f"Frames(pixels {list(self.pixels.shape)} uint8{span})"


@dataclass(frozen=True, slots=True)
class FeatureBatch:
    """Frame features of B clips, padded to the longest: what heads take.

    Attributes:
        features: [B, T, D], as the backbone gave them (not normalised). What stands at and
            beyond a clip's length is padding and carries no information, NaN included.
        lengths: int64 [B], frames of each clip, 0 to T.
    """

    features: torch.Tensor
    lengths: torch.Tensor

    def __post_init__(self) -> None:
        if self.features.ndim != 3 or self.lengths.shape != self.features.shape[:1]:
            raise ValueError(
                f"features are {tuple(self.features.shape)} and lengths "
                f"{tuple(self.lengths.shape)}, expected [B, T, D] and [B]"
            )

    def __len__(self) -> int:
        return self.features.shape[0]

    def __repr__(self) -> str:
        shape, kind = list(self.features.shape), str(self.features.dtype).removeprefix("torch.")
        return f"FeatureBatch(features {shape} {kind}, {int(self.lengths.sum())} frames)"

    def mask(self) -> torch.Tensor:
        """Bool [B, T]: true where there is a frame."""
        import torch

        steps = torch.arange(self.features.shape[1], device=self.features.device)
        return steps[None, :] < self.lengths[:, None].to(steps.device)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What made a feature: two caches mix only when all of it agrees.

    Attributes:
        model: open_clip model name, or ``tiny``.
        weights: the tag or file name the weights were asked for by.
        sha256: of the loaded state dict (names, shapes, bytes).
        preprocessing: size, way of resizing, interpolation, mean and deviation, as one line.
        sampling: frame rate, cap and policy, as one line.
        decoder: name and version.
        dtype: numerics of the forward pass (``float32``, ``bfloat16``, ``int8``).
        features: ``final`` (after CLIP's projection) or ``hidden`` (before it).
        batch: frames encoded at once, on which rounding depends; ``None`` is unknown (older
            caches do not say) and differs from nothing.
        compiled: whether torch's compiler made the vision tower, which rounds otherwise too.
        tokenizer: sha256 of a tokenizer that was passed; empty is the model's own.
        frames: which frames were taken for the wanted seconds: ``exact``, ``near``, or ``key``
            with its largest gap; caches that do not say have ``exact`` ones.
        backend: what computed the vision tower, ``torch`` (compiled or not) or ``openvino``.
        calibrated: checksum of the int8 tower, which is beside ``cache.json``.
    """

    model: str
    weights: str
    sha256: str
    preprocessing: str
    sampling: str
    decoder: str
    dtype: str
    features: str = "final"
    batch: int | None = None
    compiled: bool = False
    tokenizer: str = ""
    frames: str = "exact"
    backend: str = "torch"
    calibrated: str = ""

    @property
    def engine(self) -> str:
        """What computed the vision tower, as ``--backend`` calls it."""
        return "compile" if self.compiled else self.backend

    def differences(self, other: Fingerprint) -> list[str]:
        """Each field that differs, as ``field: mine, theirs``."""
        return [
            f"{name}: {getattr(self, name)}, {getattr(other, name)}"
            for name in self.__slots__
            if getattr(self, name) != getattr(other, name)
            and (name != "batch" or None not in (self.batch, other.batch))
        ]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Clips that were recognised among others.

    Attributes:
        clips: how many.
        by_id: how many of them by their id; ``by_file`` (the same file and stretch) and
            ``by_content`` (a file of the same content) likewise.
        first: the id of the first one; empty when there is none.
    """

    clips: int = 0
    by_id: int = 0
    by_file: int = 0
    by_content: int = 0
    first: str = ""

    def __str__(self) -> str:
        ways = {"id": self.by_id, "file": self.by_file, "content": self.by_content}
        told = ", ".join(f"{number} by {way}" for way, number in ways.items() if number)
        return f"first '{self.first}'; {told}"


@dataclass(frozen=True, slots=True)
class Leak:
    """What of the evaluated clips the model has seen before.

    Attributes:
        evaluated: how many clips were evaluated.
        trained: those that it was trained on.
        chosen: those that its best epoch was chosen on.
        unknown: why there may be more; empty when everything is recorded.
    """

    evaluated: int
    trained: Overlap = field(default_factory=Overlap)
    chosen: Overlap = field(default_factory=Overlap)
    unknown: str = ""

    def notes(self, split_chosen_on: bool = False) -> list[str]:
        """What must be said beside the figures, a line each.

        Args:
            split_chosen_on: it is said already that this split chose the best epoch.
        """
        lines = []
        if self.trained.clips:
            lines.append(
                f"leak: {self.trained.clips} of {self.evaluated} evaluated clips were trained on "
                f"({self.trained}): figures are not of unseen clips"
            )
        if self.chosen.clips and not split_chosen_on:
            lines.append(
                f"the best epoch was chosen on {self.chosen.clips} of {self.evaluated} evaluated "
                f"clips ({self.chosen}): figures are optimistic"
            )
        if self.unknown:
            lines.append(f"it is not known whether evaluated clips were trained on: {self.unknown}")
        return lines


class Query(str):
    """A sentence, with the id that its asker knows it by.

    >>> Query("a dog runs", 7).id
    7

    Attributes:
        id: text or number; ``None`` when there is none.
    """

    id: str | int | None

    def __new__(cls, text: str, name: str | int | None = None) -> Query:
        """The sentence ``text``, called ``name``."""
        found = super().__new__(cls, text)
        found.id = name
        return found
