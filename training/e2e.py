"""``train-e2e``: the same loop with the backbone in it, from video frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from c4c.cache.seen import FILE as SEEN
from c4c.core.errors import C4CError
from c4c.core.records import Dataset, FeatureBatch, Leak, Overlap
from c4c.core.sampling import order_frames
from c4c.core.tensors import state_sha256
from c4c.extract.backbone.activation import with_activation
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.patch3d import add_patch3d, has_patch3d
from c4c.extract.video.decode import decoder_version
from c4c.heads.base import Head
from c4c.heads.checkpoint import Checkpoint, save_checkpoint
from c4c.retrieval.metrics import places_of
from c4c.training.batches import Indices
from c4c.training.cached import RUNS, start_head
from c4c.training.config import TrainE2EConfig
from c4c.training.evaluation import Answers, answer_notes, answers, figures
from c4c.training.frame_store import FrameStore
from c4c.training.frames import DecodedFrames
from c4c.training.layers import checkpoint_layers, freeze
from c4c.training.loop import Run
from c4c.training.parallel import many_processes
from c4c.training.recipes import RECIPES
from c4c.training.result import TrainResult
from c4c.training.split_frames import decoders, frames_wanted, split_frames
from c4c.training.splits import load_split, seen_by, settle, splits_to_evaluate, stamped
from c4c.training.task import Task, put_back

_EVAL_CLIPS = 32  # clips encoded at once while evaluating
_EVAL_TEXTS = 256  # and captions


@dataclass(frozen=True, slots=True)
class FrameInputs:
    """Frames and tokens of a batch.

    Attributes:
        pixels: uint8 [sum of lengths, 3, S, S], clip after clip.
        lengths: int64 [B].
        tokens: int64 [B, L].
    """

    pixels: Tensor
    lengths: Tensor
    tokens: Tensor


class E2ETask(Task):
    """A head above a backbone that learns too."""

    def __init__(
        self,
        config: TrainE2EConfig,
        backbone: Backbone,
        head: Head,
        train: tuple[Dataset, FrameStore | DecodedFrames],
        evaluated: tuple[Dataset, FrameStore] | None = None,
        leak: Overlap = Overlap(),  # noqa: B008
    ) -> None:
        self.config: TrainE2EConfig = config
        self.backbone = backbone
        self.device = backbone.device
        self.head = head.to(self.device)
        self.encoder_trains = True
        self._evaluated, self.leak = evaluated, leak
        dataset, self._store = train
        self._ahead: Iterator[Any] | None = None
        owners = places_of(self._store.ids, [c.clip_id for c in dataset.captions])
        lengths = self._store.lengths
        kept = [row for row, owner in enumerate(owners) if owner >= 0 and lengths[owner] > 0]
        if not kept:
            raise C4CError(f"{dataset.name} {dataset.split} has no captioned clip with frames.")
        captions = [dataset.captions[row] for row in kept]
        self._owners = owners[kept]
        self.clip_of = [caption.clip_id for caption in captions]
        self.texts = [caption.text for caption in captions]
        clips = {clip.id: clip for clip in dataset.clips}
        self.stretches = [(clips[name].path, clips[name].start) for name in self.clip_of]
        self._tokens = backbone.tokenize(self.texts, config.max_words)
        freeze(backbone.model, config.freeze_layers, RECIPES[config.recipe].freezes_stem)
        if config.grad_checkpointing:
            checkpoint_layers(backbone)
        self.notes = self._notes()

    def _notes(self) -> tuple[str, ...]:
        if self._evaluated is None:
            return ()
        dataset, store = self._evaluated
        _, right = self._gallery()
        expected = len(dataset.clips) + len(dataset.missing)
        failed = int((store.lengths == 0).sum())
        own = answer_notes(right, expected, len(dataset.missing), failed)
        return (*Leak(len(dataset.clips), self.leak).notes(), *own)

    def _gallery(self) -> tuple[Any, Answers]:
        """Places of the evaluated clips that have frames, and the right answers among them."""
        assert self._evaluated is not None
        dataset, store = self._evaluated
        places = np.flatnonzero(store.lengths > 0)
        ids = [store.ids[place] for place in places]
        return places, answers(ids, [c.clip_id for c in dataset.captions], dataset.twins)

    def modules(self) -> list[tuple[str, nn.Module, float]]:
        """Head and backbone, the backbone at its share of the learning rate."""
        return [("head", self.head, 1.0), ("backbone", self.backbone.model, self.config.coef_lr)]

    def expect(self, batches: Sequence[Indices]) -> None:
        """Begin to read, or to decode, the clips of these batches."""
        self._ahead = self._store.stream(self._owners[np.concatenate(batches)] if batches else ())

    def load(self, captions: Indices, generator: torch.Generator) -> FrameInputs:
        """Frames as expected; a pair whose clip turns out to have none is left out.

        Raises:
            C4CError: no pair is left.
        """
        seed = int(torch.randint(1 << 31, (1,), generator=generator))
        ahead = self._ahead or self._store.stream(self._owners[captions])
        frames = list(itertools.islice(ahead, len(captions)))
        there = np.array([len(own) > 0 for own in frames])
        if not there.any():
            names = ", ".join(sorted({self.clip_of[row] for row in captions})[:5])
            raise C4CError(f"No clip of a batch could be decoded ({names}, …); check the videos.")
        good = [own for own in frames if len(own)]
        pixels, lengths = self._arrange(good, self.config.order, np.random.default_rng(seed))
        return FrameInputs(pixels, lengths, self._tokens[torch.from_numpy(captions[there])])

    def _arrange(
        self, frames: Sequence[Any], order: str, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Frames of clips, each [n, 3, S, S], in the order asked for: packed, and their lengths."""
        rows = [own[order_frames(np.arange(len(own)), order, generator)] for own in frames]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        return torch.from_numpy(np.concatenate(rows)), lengths.to(self.device)

    def encode(self, inputs: Any, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Frames and captions through the towers; [b, T, D] padded to the batch's longest."""
        lengths = inputs.lengths
        before, inside = int(lengths[:start].sum()), int(lengths[start:stop].sum())
        frames = self._towers(inputs.pixels[before : before + inside], lengths[start:stop])
        padded = _pad(frames, lengths[start:stop], int(lengths.max()))
        tokens = inputs.tokens[start:stop]
        return padded, self.backbone.encode_text(tokens)

    def _towers(self, pixels: Tensor, lengths: Tensor) -> Tensor:
        """Packed frames [F, 3, S, S] of clips of those lengths to features [F, D]."""
        images = self.backbone.preprocess(pixels.permute(0, 2, 3, 1))
        if not has_patch3d(self.backbone.model.visual):
            return self.backbone.encode_frames(images)
        video = _pad(images, lengths, int(lengths.max()))
        return self.backbone.encode_video(video, lengths)[_inside(lengths, video.shape[1])]

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Figures on the evaluated split; empty when there is none."""
        if self._evaluated is None:
            return {}
        self.train_mode(False)
        dataset, store = self._evaluated
        places, right = self._gallery()
        tokens = self.backbone.tokenize([c.text for c in dataset.captions], self.config.max_words)
        with self.autocast():
            parts = torch.split(
                tokens, _EVAL_TEXTS
            )  # a split can hold tens of thousands of captions
            text = torch.cat([self.backbone.encode_text(part).float() for part in parts])
            return figures(self.head, self._blocks(store, places), text, right)

    def _blocks(self, store: FrameStore, places: Any) -> Iterator[FeatureBatch]:
        generator = np.random.default_rng(0)
        for first in range(0, len(places), _EVAL_CLIPS):
            own = places[first : first + _EVAL_CLIPS]
            frames_of = list(store.stream(own))
            pixels, lengths = self._arrange(frames_of, self.config.eval_order, generator)
            frames = self._towers(pixels, lengths).float()
            yield FeatureBatch(_pad(frames, lengths, int(lengths.max())), lengths)

    def save(self, folder: Path, meta: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Write head and backbone; the folder is a backbone for ``--pretrained`` too."""
        own = self.backbone.model.state_dict()
        made = {**meta["fingerprint"], "sha256": state_sha256(own), "weights": str(folder)}
        save_checkpoint(
            folder,
            self.head,
            {**meta, "fingerprint": made},
            backbone_state=own,
            backbone_info=self.backbone.about(),
            state=state or None,
            beside={SEEN: self.seen.as_bytes()},
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take head and backbone back."""
        held = checkpoint.backbone_state
        if held is None:
            raise C4CError(f"{checkpoint.path} holds no backbone to go on from.")
        put_back(self.head, checkpoint.head.state_dict(), checkpoint.path)
        put_back(self.backbone.model, held, checkpoint.path)


def _pad(frames: Tensor, lengths: Tensor, longest: int) -> Tensor:
    """Packed frames [F, …] to [B, T, …] with zeros."""
    padded = frames.new_zeros(len(lengths), longest, *frames.shape[1:])
    padded[_inside(lengths, longest)] = frames
    return padded


def _inside(lengths: Tensor, longest: int) -> Tensor:
    """Which places [B, T] hold a frame."""
    return torch.arange(longest, device=lengths.device)[None] < lengths[:, None]


def train_e2e(config: TrainE2EConfig) -> TrainResult:
    """Train head and backbone from videos.

    Raises:
        C4CError: data or weights that cannot be used.
        Interrupted: stopped on request, with everything saved.
    """
    out = config.out or RUNS / f"{config.head}-{config.dataset}-e2e"
    with many_processes() as world, world.one_writer(out):
        load = cache(lambda split: load_split(config, split))
        settled = settle(
            config.eval_split,
            splits_to_evaluate(config),
            config.train_split,
            stamped(load(config.train_split)),
            lambda split: stamped(load(split)),
            seen_by(config.init_head) | seen_by(config.pretrained),
        )
        eval_split = settled.split
        names = [name for name in (config.train_split, eval_split) if name]
        datasets = {name: load(name) for name in names}
        torch.manual_seed(config.seed)
        name = with_activation(config.backbone, config.pretrained, config.quick_gelu)
        backbone = load_backbone(
            name,
            config.pretrained,
            config.device,
            "float32",
            config.preprocess,
            config.tokenizer,
        )
        backbone.tell_preprocessing()
        if config.linear_patch == "3d":
            add_patch3d(backbone.model.visual)
        # The first process decodes; the others find the frames in its cache.
        if not world.leads:
            world.await_leader()
        anew = config.frames == "decode"
        stores = {
            name: split_frames(config, dataset, backbone)
            for name, dataset in datasets.items()
            if name == eval_split or not anew  # what is evaluated is always kept
        }
        if world.leads:
            world.await_leader()
        head = start_head(config, backbone.embed_dim, backbone.head_init())
        dataset = datasets[config.train_split]
        train = stores.get(config.train_split) or DecodedFrames(
            dataset, backbone, frames_wanted(config, backbone), decoders(config)
        )
        evaluated = (datasets[eval_split], stores[eval_split]) if eval_split else None
        task = E2ETask(config, backbone, head, (dataset, train), evaluated, settled.leak)
        task.seen = settled.seen
        sampling = f"fps={config.fps:g} max={config.max_frames} {config.sampling}"
        fingerprint = backbone.fingerprint(sampling, decoder_version(config.decoder))
        meta = {
            "config": config.numbers(),
            "chosen_on": eval_split,
            "fingerprint": asdict(fingerprint),
        }
        return Run(task, out, world, meta).train()
