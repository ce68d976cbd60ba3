"""What an extraction is told, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from c4c.core.cluster import ENGINES, check_engine
from c4c.core.config import check_part
from c4c.core.errors import C4CError
from c4c.core.limits import FPS, MAX_GAP, MOST_FRAMES, MOST_WORKERS
from c4c.core.records import Clip
from c4c.core.sampling import SAMPLERS
from c4c.core.settings import check, setting
from c4c.extract.backbone.precisions import PRECISIONS
from c4c.extract.video.request import DECODERS, FRAME_MODES

if TYPE_CHECKING:
    from c4c.cache.findings import Failure

BATCH = 64  # frames encoded at once


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
        backend: what computes the vision tower; ``None`` is as the cache was
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

    dataset: str = setting(
        "Data", "Its name; 'folder' is any folder of videos.", "folder", metavar="NAME"
    )
    root: Path | None = setting("Data", "Folder of the dataset.", None)
    videos: Path | None = setting("Data", "Folder of its videos.", None)
    captions: Path | None = setting("Data", "Captions file (folder, manifest).", None)
    cache: Path | None = setting("Data", "Cache. [c4c-cache/DATASET]", None)
    splits: tuple[str, ...] = setting(
        "Data", "Split to extract; repeatable. [the usual ones]", (), option="split"
    )
    only_captioned: bool = setting(
        "Data", "Of a folder, only the videos that --captions names.", False
    )
    include: tuple[str, ...] = setting(
        "Data",
        "Only files like this, by name or path; repeatable. [all]",
        (),
        metavar="PATTERN",
    )
    exclude: tuple[str, ...] = setting(
        "Data", "No files like this, likewise; repeatable.", (), metavar="PATTERN"
    )
    fps: float = setting("Frames", "Frames a second.", 1.0, within=FPS)
    max_frames: int | None = setting(
        "Frames", "Frames of a clip at most. [all]", None, within=(1, MOST_FRAMES)
    )
    sampling: str = setting(
        "Frames", "Which frames when there are more.", "uniform", choices=SAMPLERS
    )
    frame_mode: str = setting(
        "Frames", "near, key: frames that decode faster.", "exact", choices=FRAME_MODES
    )
    max_gap: float = setting(
        "Frames", "Of key: seconds without a frame at most.", MAX_GAP, within=(0.1, 1e6)
    )
    backbone: str = setting(
        "Model", "open_clip name, tiny, or auto (read off the weights).", "ViT-B-32"
    )
    pretrained: str | None = setting(
        "Model", "Tag, file of weights, or none. [openai, or the first]", None
    )
    preprocess: str | None = setting(
        "Model", "Frames as for this tag's weights. [as the weights say]", None, metavar="TAG"
    )
    tokenizer: Path | None = setting(
        "Model", "Folder or file, for backbones without CLIP's own. [the hub's]", None
    )
    quick_gelu: bool | None = setting(
        "Model", "Activation of weights in a file. [found out, and said]", None
    )
    features: str = setting(
        "Model", "hidden: before CLIP's projections.", "final", choices=("final", "hidden")
    )
    device: str | None = setting(
        "Machine", "cpu, cuda:1; several with commas. [a GPU when there is one]", None
    )
    workers: int = setting("Machine", "Decoder processes. [cores]", 0, within=(0, MOST_WORKERS))
    batch: int | None = setting(
        "Machine",
        "Frames encoded at once. [as the cache was begun, or 64]",
        None,
        within=(1, 1 << 13),
    )
    backend: str | None = setting(
        "Machine",
        "What computes the backbone; auto measures. [as the cache was begun, or torch]",
        None,
        choices=("auto", "torch", "openvino", "compile"),
    )
    precision: str = setting(
        "Machine",
        "auto: bfloat16 where it is fast. int8: of OpenVINO.",
        "auto",
        choices=("auto", *PRECISIONS),
    )
    allow_int8: bool = setting("Machine", "Of --backend auto: it may take int8.", False)
    decoder: str = setting("Machine", "What decodes the videos.", "pyav", choices=DECODERS)
    shard_slice: tuple[int, int] = setting(
        "Machine",
        "i/n: part i of n, counted from 0 (job arrays).",
        (0, 1),
        option="slice",
        old=("shard-slice",),
    )
    engine: str = setting(
        "Machine",
        "ray: a task a shard on a Ray cluster.",
        "local",
        choices=ENGINES,
    )
    address: str | None = setting(
        "Machine", "Of the Ray cluster, such as ray-head:6379. [this machine]", None
    )
    deadline: float | None = setting(
        "Advanced", "Seconds a clip may take. [by its size]", None, within=(0.1, 1e7)
    )
    shard_clips: int = setting("Advanced", "Clips committed together.", 256, within=(1, 1 << 20))
    max_words: int | None = setting(
        "Advanced", "Tokens of a caption at most. [as CLIP]", None, within=(3, 1 << 16)
    )
    retry_failed: bool = setting("Advanced", "Extract failed clips again.", False)
    refresh: bool = setting(
        "Advanced", "Extract again the clips that newer rules of decoding concern.", False
    )
    max_fail_rate: float = setting(
        "Advanced", "Stop when more than this share fails.", 1.0, within=(0, 1)
    )
    strict: bool = setting("Advanced", "Refuse an incomplete dataset.", False)
    clips: tuple[Clip, ...] = ()

    def __post_init__(self) -> None:
        check(self)
        check_part("--slice", self.shard_slice)
        check_engine(self.engine, self.address)
        if self.frame_mode != "exact" and self.decoder != "pyav":
            raise C4CError(f"--frame-mode {self.frame_mode} needs --decoder pyav.")
        if self.frame_mode != "key" and self.max_gap != MAX_GAP:
            raise C4CError("--max-gap is of --frame-mode key; pass that too.")
        self._check_backend()

    def _check_backend(self) -> None:
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
