"""What a training is told: one frozen record a command, and what a training gives back."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.errors import C4CError
from c4c.core.limits import FPS, MOST_FRAMES, MOST_SEED, MOST_WORKERS, require_within

if TYPE_CHECKING:
    from c4c.heads.base import Head

# What may differ between a run and its resumption: it changes the numbers by rounding at most.
_FREE = frozenset(
    {
        "out",
        "device",
        "resume",
        "overwrite",
        "checkpoint_minutes",
        "workers",
        "tensorboard",
        "grad_checkpointing",
        "frames",
    }
)
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 10_000),
    "batch": (1, 1 << 20),
    "accumulate": (1, 1 << 20),
    "micro_batch": (0, 1 << 20),
    "pairs": (1, 1 << 20),
    "lr": (1e-12, 1e3),
    "coef_lr": (0, 1e6),
    "weight_decay": (0, 1e3),
    "warmup": (0, 1),
    "clip_norm": (1e-9, math.inf),  # infinite: nothing is clipped
    "seed": (0, MOST_SEED),
    "max_frames": (1, MOST_FRAMES),
    "layers": (1, 64),
    "checkpoint_minutes": (0, 1e6),
}
_E2E_RANGES: dict[str, tuple[float, float]] = {
    "freeze_layers": (-1, 1000),
    "max_words": (3, 1 << 16),
    "fps": FPS,
    "workers": (1, MOST_WORKERS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """What both kinds of training share.

    Attributes:
        head: name in the registry of heads.
        out: run folder; ``None`` is ``c4c-runs/<head>-<dataset>``.
        train_split: split to train on.
        eval_split: split evaluated after each epoch, by which the best one is chosen; ``auto``
            is ``val`` where there is one, else ``none``.
        epochs: passes over the captions.
        batch: pairs a step, over all processes.
        accumulate: batches whose gradients are averaged into one step.
        micro_batch: pairs whose graph is held at once; 0 is the whole batch.
        lr: peak learning rate of the head.
        coef_lr: learning rate of what is CLIP's (backbone or projections) as a multiple of it.
        recipe: numerics of the steps: ``c4c``, or ``authors`` for those of their code.
        weight_decay: AdamW's, for all parameters but biases, norms and the scale.
        warmup: share of the steps with a rising learning rate.
        clip_norm: largest norm of the gradient.
        seed: of initialisation, order of the data, sampling and dropout.
        max_frames: frames of a clip that a head sees.
        sampling: which of them when there are more: ``head``, ``tail`` or ``uniform``.
        order: order of frames while training: ``ordinary``, ``reverse`` or ``random``.
        eval_order: the same while evaluating.
        layers: transformer layers of the head.
        precision: ``float32`` or ``bfloat16`` (autocast).
        init_head: checkpoint whose head to start from.
        resume: ``None`` to begin, ``auto`` to go on from the run folder's last checkpoint when
            there is one, or a checkpoint folder.
        overwrite: begin anew in a folder that holds a run.
        objective: ``contrastive`` (symmetric cross entropy), or ``mil-nce``.
        pairs: for ``mil-nce``: successive stretches of a video that count as each other's.
        clip_captions: ``all`` captions of a clip in every epoch, or ``one`` drawn of them.
        checkpoint_minutes: save at least so often; 0 is only after each epoch.
        tensorboard: also write TensorBoard's event files.
        device: ``cpu``, ``cuda``, …; ``None`` takes a GPU when there is one.
    """

    head: str
    out: Path | None = None
    train_split: str = "train"
    eval_split: str = "auto"
    epochs: int = 5
    batch: int = 128
    accumulate: int = 1
    micro_batch: int = 0
    lr: float = 1e-4
    coef_lr: float = 1e-3
    recipe: str = "c4c"
    weight_decay: float = 0.2
    warmup: float = 0.1
    clip_norm: float = 1.0
    seed: int = 0
    max_frames: int = 12
    sampling: str = "uniform"
    order: str = "ordinary"
    eval_order: str = "ordinary"
    layers: int = 4
    precision: str = "float32"
    init_head: Path | None = None
    resume: str | None = None
    overwrite: bool = False
    objective: str = "contrastive"
    pairs: int = 1
    clip_captions: str = "all"
    checkpoint_minutes: float = 10.0
    tensorboard: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        _one_of("recipe", self.recipe, ("c4c", "authors"))
        _one_of("objective", self.objective, ("contrastive", "mil-nce"))
        _one_of("clip_captions", self.clip_captions, ("all", "one"))
        for name, (least, most) in _RANGES.items():
            require_within(name, getattr(self, name), least, most)
        if self.warmup == 1:
            raise C4CError(f"--warmup is {self.warmup}, expected a share of the steps below 1.")
        if self.pairs > 1 and self.objective != "mil-nce":
            raise C4CError(f"--pairs {self.pairs} is for --objective mil-nce; pass it too.")
        if self.objective == "mil-nce" and self.clip_captions == "one":
            raise C4CError("--clip-captions one is for --objective contrastive; leave it out.")
        if self.batch % self.pairs:
            raise C4CError(f"--batch {self.batch} is no multiple of --pairs {self.pairs}.")

    def numbers(self) -> dict[str, Any]:
        """Settings that decide the result, as JSON holds them."""
        found = {key: value for key, value in asdict(self).items() if key not in _FREE}
        return {key: str(v) if isinstance(v, Path) else v for key, v in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainHeadConfig(TrainConfig):
    """``c4c train-head``: a head on cached features.

    Attributes:
        cache: feature cache; ``None`` is the only one under ``c4c-cache``.
        tune: ``head``, or ``projections`` to train CLIP's two projections too, on a cache of
            the features before them.
    """

    cache: Path | None = None
    epochs: int = 30
    lr: float = 1e-3
    tune: str = "head"
    coef_lr: float = 0.1

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        _one_of("tune", self.tune, ("head", "projections"))

    @property
    def learns(self) -> bool:
        """Whether anything is trained: mean pooling of features that do not change has nothing."""
        from c4c.heads import HEADS

        return self.tune != "head" or bool(HEADS[self.head].trainable)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainE2EConfig(TrainConfig):
    """``c4c train-e2e``: head and backbone together, from frames.

    Attributes:
        dataset: name in the registry of datasets.
        root: where the dataset lies, as ``c4c.core.config.dataset_source`` takes it.
        videos: folder of its videos.
        captions: its captions file, for datasets that take one.
        backbone: open_clip model name, or ``tiny``.
        pretrained: tag, file, checkpoint folder or ``none``; ``None`` is the backbone's default.
        linear_patch: ``3d`` gives the vision tower patches over three frames (section 3.2),
            started from its own; ``2d`` leaves the tower as its weights say.
        freeze_layers: transformer layers of each tower left as they are, from below, with the
            embeddings under them; -1 freezes nothing, and so does 0 (but not for the recipe
            ``authors``, which leaves the embeddings at 0).
        grad_checkpointing: keep only what goes into each layer of the towers, and compute the
            rest again on the way back: less memory, more time, the same gradients.
        max_words: tokens of a caption, start and end included; ``None`` is CLIP's context.
        fps: frames a second.
        frames: ``cache`` decodes every clip once, to disk; ``decode`` decodes those that are
            trained on whenever they are wanted. The frames are the same.
        frame_cache: folder of the frame cache; ``None`` is ``c4c-cache/<dataset>-frames``.
        decoder: ``pyav`` or ``decord``.
        workers: decoding processes; ``None`` is one a core.
    """

    dataset: str
    root: Path | None = None
    videos: Path | None = None
    captions: Path | None = None
    backbone: str = "ViT-B-32"
    pretrained: str | None = None
    linear_patch: str = "2d"
    freeze_layers: int = 0
    grad_checkpointing: bool = False
    max_words: int | None = None
    fps: float = 1.0
    frames: str = "cache"
    frame_cache: Path | None = None
    decoder: str = "pyav"
    workers: int | None = None

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        for name, (least, most) in _E2E_RANGES.items():
            require_within(name, getattr(self, name), least, most)
        _one_of("frames", self.frames, ("cache", "decode"))
        if self.frames == "decode" and self.objective == "mil-nce":
            raise C4CError("--frames decode is for --objective contrastive; use the cache.")
        _one_of("linear_patch", self.linear_patch, ("2d", "3d"))


@dataclass(frozen=True)
class TrainResult:
    """What a training leaves. It stands for its best checkpoint wherever a path to one is taken.

    Attributes:
        checkpoint: folder of the best checkpoint (the last one when nothing was evaluated).
        last: folder of the last checkpoint.
        metrics: figures of the best checkpoint on the evaluated split, ``t2v_r1`` and so on;
            empty when nothing was evaluated.
        steps: optimizer steps taken, over all resumptions.
        notes: what must be said beside the metrics.
    """

    checkpoint: Path
    last: Path
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    notes: tuple[str, ...] = ()

    def __fspath__(self) -> str:
        return str(self.checkpoint)

    def __repr__(self) -> str:
        figures = f", R@1 {self.metrics['t2v_r1']:.1f}" if "t2v_r1" in self.metrics else ""
        return f"TrainResult('{self.checkpoint}', {self.steps} steps{figures})"

    @cached_property
    def head(self) -> Head:
        """The head of the best checkpoint, in float32 on the CPU, in evaluation mode.

        Raises:
            C4CError: the checkpoint is gone or damaged.
        """
        from c4c.heads.checkpoint import load_checkpoint

        return load_checkpoint(self.checkpoint).head


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise C4CError(f"--{name.replace('_', '-')} is '{value}'. Known: {', '.join(known)}.")
