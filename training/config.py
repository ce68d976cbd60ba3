"""What a training is told: one frozen record a command."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from c4c.core.errors import C4CError
from c4c.core.limits import FPS, MOST_FRAMES, MOST_SEED, MOST_WORKERS
from c4c.core.sampling import ORDERS, SAMPLERS, View
from c4c.core.settings import changed, check, setting
from c4c.heads import HEADS

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

    head: str = setting("Model", "The temporal head.", choices=HEADS)
    out: Path | None = setting("Data", "Run folder. [c4c-runs/…]", None)
    train_split: str = setting("Data", "Split that is trained on.", "train")
    eval_split: str = setting(
        "Data",
        "Split that chooses the best epoch, or none. [val, where no clip is trained on]",
        "auto",
    )
    epochs: int = setting("Training", "Passes over the captions.", 5, within=(1, 10_000))
    batch: int = setting("Training", "Pairs in a batch.", 128, within=(1, 1 << 20))
    lr: float = setting("Training", "Peak learning rate of the head.", 1e-4, within=(1e-12, 1e3))
    coef_lr: float = setting(
        "Training",
        "The backbone's learning rate as a multiple of --lr.",
        1e-3,
        within=(0, 1e6),
    )
    seed: int = setting("Training", "Seed of everything random.", 0, within=(0, MOST_SEED))
    resume: str | None = setting("Training", "auto, or a checkpoint folder of the same run.", None)
    overwrite: bool = setting("Training", "Begin anew in a folder that holds a run.", False)
    init_head: Path | None = setting("Training", "Checkpoint to start from.", None)
    max_frames: int = setting("Frames", "Frames a clip.", 12, within=(1, MOST_FRAMES))
    sampling: str = setting(
        "Frames", "Which frames when there are more.", "uniform", choices=SAMPLERS
    )
    order: str = setting("Frames", "Frame order in training.", "ordinary", choices=ORDERS)
    eval_order: str = setting("Frames", "In evaluation.", "ordinary", choices=ORDERS)
    layers: int = setting("Model", "Transformer layers of the head.", 4, within=(1, 64))
    device: str | None = setting("Machine", "cpu, cuda, cuda:1. [a GPU when there is one]", None)
    precision: str = setting(
        "Machine",
        "Of the steps; bfloat16 is by autocast.",
        "float32",
        choices=("float32", "bfloat16"),
    )
    micro_batch: int = setting(
        "Machine", "Pairs held in memory at once; same gradients. [all]", 0, within=(0, 1 << 20)
    )
    checkpoint_minutes: float = setting("Machine", "Save at least so often.", 10.0, within=(0, 1e6))
    tensorboard: bool = setting("Machine", "Write event files too.", False)
    accumulate: int = setting("Advanced", "Batches averaged in a step.", 1, within=(1, 1 << 20))
    weight_decay: float = setting("Advanced", "AdamW's weight decay.", 0.2, within=(0, 1e3))
    warmup: float = setting(
        "Advanced", "Share of the steps with a rising rate.", 0.1, within=(0, 1)
    )
    # Infinite: nothing is clipped.
    clip_norm: float = setting("Advanced", "Largest gradient norm.", 1.0, within=(1e-9, math.inf))
    recipe: str = setting(
        "Advanced",
        "Numerics of the steps; authors: as in their code.",
        "c4c",
        choices=("c4c", "authors"),
    )
    objective: str = setting(
        "Advanced",
        "mil-nce is for post-pretraining on narrated video.",
        "contrastive",
        choices=("contrastive", "mil-nce"),
    )
    pairs: int = setting(
        "Advanced", "mil-nce: stretches of a video that belong together.", 1, within=(1, 1 << 20)
    )
    clip_captions: str = setting(
        "Advanced",
        "Captions of a clip an epoch; one is drawn anew each time.",
        "all",
        choices=("all", "one"),
    )

    @property
    def view(self) -> View:
        """The frames that a head sees in training."""
        return View(self.max_frames, self.sampling, self.order)

    @property
    def eval_view(self) -> View:
        """The frames that a head sees in evaluation."""
        return View(self.max_frames, self.sampling, self.eval_order)

    def __post_init__(self) -> None:
        check(self)
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

    cache: Path | None = setting("Data", "Feature cache. [the one below c4c-cache/]", None)
    epochs: int = changed(TrainConfig, "epochs", 30)
    lr: float = changed(TrainConfig, "lr", 1e-3, help="Peak learning rate.")
    tune: str = setting(
        "Model",
        "projections: CLIP's two projections too.",
        "head",
        choices=("head", "projections"),
    )
    coef_lr: float = changed(
        TrainConfig,
        "coef_lr",
        0.1,
        help="The projections' learning rate as a multiple of --lr.",
    )

    @property
    def learns(self) -> bool:
        """Whether anything is trained: mean pooling of features that do not change has nothing."""
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
        preprocess: tag of the model whose preprocessing counts; ``None`` is what the weights say.
        tokenizer: local folder or file of the tokenizer; ``None`` is the model's own.
        quick_gelu: whether weights in a file have OpenAI's QuickGELU; ``None`` finds out.
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

    dataset: str = setting("Data", "Its name.", metavar="NAME")
    root: Path | None = setting("Data", "Folder of the dataset.", None)
    videos: Path | None = setting("Data", "Folder of its videos.", None)
    captions: Path | None = setting("Data", "Captions file (folder, manifest).", None)
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
    linear_patch: str = setting(
        "Model", "3d: patches over three frames.", "2d", choices=("2d", "3d")
    )
    freeze_layers: int = setting(
        "Model", "Lowest layers of each tower left as they are.", 0, within=(-1, 1000)
    )
    grad_checkpointing: bool = setting(
        "Machine", "Keep less of a layer, compute it again: less memory, more time.", False
    )
    max_words: int | None = setting(
        "Advanced", "Tokens of a caption at most. [as CLIP]", None, within=(3, 1 << 16)
    )
    fps: float = setting("Frames", "Frames a second.", 1.0, within=FPS)
    frames: str = setting(
        "Frames",
        "decode: anew each time, for small disks.",
        "cache",
        choices=("cache", "decode"),
    )
    frame_cache: Path | None = setting("Frames", "Decoded frames. [c4c-cache/DATASET-frames]", None)
    decoder: str = setting(
        "Machine", "What decodes the videos.", "pyav", choices=("pyav", "decord")
    )
    workers: int | None = setting(
        "Machine", "Decoder processes. [cores]", None, within=(1, MOST_WORKERS)
    )

    def __post_init__(self) -> None:
        TrainConfig.__post_init__(self)
        if self.frames == "decode" and self.objective == "mil-nce":
            raise C4CError("--frames decode is for --objective contrastive; use the cache.")
