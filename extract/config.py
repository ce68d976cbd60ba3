"""What an extraction is told, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from c4c.cache.open import Failure
from c4c.core.config import check_part
from c4c.core.errors import C4CError
from c4c.core.limits import FPS, MAX_GAP, MOST_FRAMES, MOST_WORKERS, require_within
from c4c.core.records import Clip
from c4c.extract.video.decode import FRAME_MODES

BACKENDS = ("auto", "torch", "openvino", "compile")
BATCH = 64  # frames encoded at once
_RANGES: dict[str, tuple[float, float]] = {
    "fps": FPS,
    "max_frames": (1, MOST_FRAMES),
    "max_gap": (0.1, 1e6),
    "max_words": (3, 1 << 16),
    "batch": (1, 1 << 13),
    "workers": (0, MOST_WORKERS),
    "deadline": (0.1, 1e7),
    "shard_clips": (1, 1 << 20),
    "max_fail_rate": (0, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractConfig:
    """Settings of ``c4c extract``.

    Attributes:
        dataset: name in the registry of datasets.
        root: folder of the annotations; ``None`` asks ``c4c.toml`` and ``$C4C_DATA``.
        videos: folder of the videos; ``None`` is ``root``.
        captions: captions file, for ``folder``.
        only_captioned: of ``folder``, only the videos that ``captions`` names.
        include: patterns of the files to look at, by name or path; empty is all.
        exclude: patterns of those to pass over.
        cache: cache folder; ``None`` is ``c4c-cache/<dataset>``.
        splits: splits to extract; empty is all.
        backbone: open_clip model name, or ``tiny``.
        pretrained: tag, file of weights, checkpoint folder, or ``none``.
        preprocess: tag of the model whose preprocessing counts; ``None`` is what the weights say.
        tokenizer: local folder or file of the tokenizer; ``None`` is the model's own.
        quick_gelu: whether weights in a file have OpenAI's QuickGELU; ``None`` finds out.
        features: ``final``, or ``hidden`` to keep them before CLIP's projections.
        fps: frames a second.
        max_frames: frames of a clip at most.
        sampling: which ones when there are more.
        frame_mode: ``exact``, ``near`` or ``key``, as in ``Request``.
        max_gap: seconds between key frames from which on others are taken too; of ``key``.
        max_words: tokens of a caption at most, start and end included.
        decoder: ``pyav`` or ``decord``.
        backend: what computes the vision tower, of ``BACKENDS``; ``None`` is as the cache was
            begun, or torch. ``auto`` measures when a cache begins.
        precision: ``auto``, ``float32``, ``bfloat16``, or ``int8`` of OpenVINO.
        allow_int8: whether ``auto`` may take int8.
        device: ``cpu``, ``cuda``, …; ``None`` takes a GPU when there is one.
        batch: frames encoded at once; ``None`` is as the cache was begun, or 64.
        workers: decoder processes; 0 is one a core.
        deadline: seconds that decoding a clip may take; ``None`` grows with the file.
        shard_clips: clips a shard; what is in a shard is committed together.
        shard_slice: (i, n) does part i of n, counted from 0: every n-th shard (job arrays).
        retry_failed: extract again the clips that failed earlier.
        refresh: extract again the clips that newer rules of decoding concern.
        max_fail_rate: stop when more than this share of the clips has failed.
        strict: refuse datasets with missing videos or other counts than published.
        engine: ``local``, or ``ray``.
        address: of the Ray cluster; ``None`` is Ray's own choice.
        clips: what to extract instead of a dataset, for programs that know their clips; there is
            no option for it, and ``dataset`` is then only a name.
    """

    dataset: str
    root: Path | None = None
    videos: Path | None = None
    captions: Path | None = None
    only_captioned: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    cache: Path | None = None
    splits: tuple[str, ...] = ()
    backbone: str = "ViT-B-32"
    pretrained: str | None = None
    preprocess: str | None = None
    tokenizer: Path | None = None
    quick_gelu: bool | None = None
    features: str = "final"
    fps: float = 1.0
    max_frames: int | None = None
    sampling: str = "uniform"
    frame_mode: str = "exact"
    max_gap: float = MAX_GAP
    max_words: int | None = None
    decoder: str = "pyav"
    backend: str | None = None
    precision: str = "auto"
    allow_int8: bool = False
    device: str | None = None
    batch: int | None = None
    workers: int = 0
    deadline: float | None = None
    shard_clips: int = 256
    shard_slice: tuple[int, int] = (0, 1)
    retry_failed: bool = False
    refresh: bool = False
    max_fail_rate: float = 1.0
    strict: bool = False
    engine: str = "local"
    address: str | None = None
    clips: tuple[Clip, ...] = ()

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            require_within(name, getattr(self, name), least, most)
        if self.address and self.engine != "ray":
            raise C4CError("--address is of a Ray cluster; pass --engine ray too.")
        if self.frame_mode not in FRAME_MODES:
            raise C4CError(
                f"--frame-mode is '{self.frame_mode}', expected one of {', '.join(FRAME_MODES)}."
            )
        if self.frame_mode != "exact" and self.decoder != "pyav":
            raise C4CError(f"--frame-mode {self.frame_mode} needs --decoder pyav.")
        if self.frame_mode != "key" and self.max_gap != MAX_GAP:
            raise C4CError("--max-gap is of --frame-mode key; pass that too.")
        self._check_backend()
        check_part("--shard-slice", self.shard_slice)

    def _check_backend(self) -> None:
        if self.backend is not None and self.backend not in BACKENDS:
            raise C4CError(f"--backend is '{self.backend}'. Known: {', '.join(BACKENDS)}.")
        if self.precision == "int8" and self.backend in ("torch", "compile"):
            raise C4CError("--precision int8 is of --backend openvino.")
        if self.allow_int8 and self.backend != "auto":
            raise C4CError("--allow-int8 is of --backend auto; pass that too, or --precision int8.")

    @property
    def frames(self) -> str:
        """The frame mode as a cache records it."""
        gap = f" max-gap={self.max_gap:g}" if self.frame_mode == "key" else ""
        return self.frame_mode + gap


@dataclass(frozen=True, slots=True)
class ExtractResult:
    """What an extraction did.

    Attributes:
        cache: the cache folder.
        clips: clips with features, over the splits asked for.
        expected: clips that the annotations name.
        failed: clips without features, in all runs.
        complete: whether every shard of the plan is there (job arrays leave some to others).
        noted: clips of which something must be said though they have features: partial ones, and
            those whose message says that they are HDR.
    """

    cache: Path
    clips: int
    expected: int
    failed: tuple[Failure, ...]
    complete: bool
    noted: tuple[Failure, ...] = ()
