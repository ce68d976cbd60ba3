"""A training step end to end against the authors' step in plain PyTorch, on the same inputs.

python benchmarks/train_step.py [--backbone ViT-B-32] [--batch 8] [--frames 4]

The plain step is the authors' for meanP: both towers in float32, every token of theirs
projected, sentences padded to 32 tokens, symmetric cross entropy over the matrix, one clipping
of the whole gradient, BertAdam parameter by parameter. It is given frames that are normalised
already; c4c's step reads bytes from its frame cache and normalises them. Weights are random.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from figures import json_option, show
from torch import Tensor
from torch.nn import functional as F

from c4c.core.records import Caption, Clip, Dataset
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.load import load_backbone
from c4c.training.cached import start_head
from c4c.training.config import TrainE2EConfig
from c4c.training.e2e import E2ETask
from c4c.training.frame_store import FrameStore
from c4c.training.journal import Journal
from c4c.training.loop import Run
from c4c.training.parallel import World
from c4c.training.recipes import BertAdam

_MAX_WORDS = 32
_WORDS = ("man", "woman", "dog", "car", "sings", "rides", "slowly", "red", "over", "the", "street")


def sentences(count: int) -> list[str]:
    """Captions of the length that MSR-VTT's have (nine words), no two of them equal."""
    generator = np.random.default_rng(0)
    return [" ".join([*generator.choice(_WORDS, 8), str(n)]) for n in range(count)]


def own_step(backbone: Backbone, batch: int, frames: int, **settings: Any) -> Callable[[], float]:
    """One step of ``c4c train-e2e`` as a function that gives its loss."""
    config = TrainE2EConfig(
        head="meanP",
        dataset="folder",
        eval_split="none",
        batch=batch,
        max_frames=frames,
        max_words=_MAX_WORDS,
        epochs=100,
        **settings,
    )
    ids = tuple(f"clip{n}" for n in range(batch))
    dataset = Dataset(
        "folder",
        "train",
        tuple(Clip(name, f"{name}.mp4") for name in ids),
        tuple(
            Caption(f"{name}#0", name, text)
            for name, text in zip(ids, sentences(batch), strict=True)
        ),
    )
    size = backbone.image_size
    pixels = np.random.default_rng(1).integers(0, 256, (batch * frames, 3, size, size), np.uint8)
    store = FrameStore(pixels, np.arange(batch + 1, dtype=np.int64) * frames, ids)
    head = start_head(config, backbone.embed_dim, backbone.head_init())
    task = E2ETask(config, backbone, head, (dataset, store))
    run = Run(task, Path(tempfile.gettempdir()), World(), {})
    task.train_mode(True)
    epochs = iter(range(config.epochs))
    return lambda: run._step(next(epochs), 0, Journal(None))


def plain_step(backbone: Backbone, batch: int, frames: int) -> Callable[[], float]:
    """The authors' step, as a function that gives its loss."""
    model = backbone.model.train()
    size = backbone.image_size
    images = torch.randn(batch * frames, 3, size, size, generator=torch.Generator().manual_seed(1))
    tokens = backbone.tokenize(sentences(batch), _MAX_WORDS)
    tokens = F.pad(tokens, (0, _MAX_WORDS - tokens.shape[1]))
    rate = {"lr": 1e-7}
    optimizer = BertAdam(
        [
            {**rate, "params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.2},
            {**rate, "params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ]
    )

    def step() -> float:
        video = F.normalize(_vision(model.visual, images), dim=-1).view(batch, frames, -1)
        video = F.normalize(video.mean(1), dim=-1)
        text = F.normalize(_text(model, tokens), dim=-1)
        logits = model.logit_scale.exp() * text @ video.T
        right = torch.arange(batch)
        loss = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(max=4.6052)
        return float(loss.detach())

    return step


def _vision(visual: Any, images: Tensor) -> Tensor:
    """Images to features, with the last norm and projection on every token as the authors do."""
    x = visual.conv1(images).flatten(2).transpose(1, 2)
    start = visual.class_embedding.expand(len(x), 1, -1)
    x = visual.ln_pre(torch.cat([start, x], 1) + visual.positional_embedding)
    features: Tensor = (visual.ln_post(visual.transformer(x)) @ visual.proj)[:, 0]
    return features


def _text(model: Any, tokens: Tensor) -> Tensor:
    """Sentences to features, all tokens to the end of the padding."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x) @ model.text_projection
    features: Tensor = x[torch.arange(len(x)), tokens.argmax(-1)]
    return features


@click.command()
@json_option
@click.option("--backbone", default="ViT-B-32", show_default=True)
@click.option("--batch", default=8, show_default=True)
@click.option("--frames", default=4, show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--repeats", default=5, show_default=True)
def main(backbone: str, batch: int, frames: int, threads: int, repeats: int) -> None:
    """Print one JSON line: seconds a step, and how many times faster c4c's steps are."""
    torch.set_num_threads(threads)

    def fresh() -> Backbone:
        torch.manual_seed(0)
        return load_backbone(backbone, "none", "cpu", "float32")

    steps = {"plain": plain_step(fresh(), batch, frames)}
    for precision in ("float32", "bfloat16"):
        steps[precision] = own_step(fresh(), batch, frames, precision=precision)
    for step in steps.values():
        step()  # threads, kernels and the optimizer's state are set up
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            found[name].append(time.perf_counter() - begin)
    line: dict[str, object] = {"backbone": backbone, "batch": batch, "frames": frames}
    line["plain seconds"] = round(statistics.median(found["plain"]), 3)
    for name in ("float32", "bfloat16"):
        ratios = [p / own for p, own in zip(found["plain"], found[name], strict=True)]
        line[f"times faster in {name}"] = round(statistics.median(ratios), 2)
    show(line)


if __name__ == "__main__":
    main()
