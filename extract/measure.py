"""``c4c backbones --measure``: how fast each backend is here, and how far it agrees with float32.

Frames are of shapes; int8 is calibrated on some of them and compared on others. ``tiny``, which
has learnt what they show, is also compared by what a search finds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from c4c.core.errors import C4CError
from c4c.core.progress import say
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.build import TINY
from c4c.extract.backbone.load import load_backbone, resolve_precision
from c4c.extract.backbone.openvino_tower import converted
from c4c.extract.backbone.quantise import quantised
from c4c.extract.backbone.ways import Tower, Way, openvino_ways, rates, torch_way
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import Scene, plan_scenes
from c4c.extract.datasets.shapes_render import render_clip

HEADER = [
    "name",
    "backend",
    "precision",
    "frames/s",
    "cosine",
    "least",
    "top 10",
    "R@1",
    "gain (95 %)",
]
_FLOAT = ("torch", "float32")
_BATCH = 16
_CALIBRATE, _COMPARE = 12, 16  # clips of 8 frames
_SEARCHED = 200  # clips of tiny: half of them, as mean pooling does not tell one from its twin


def measured(name: str, device: str | None = None) -> list[list[str]]:
    """A row of ``HEADER`` for each backend and precision that ``name`` has here.

    Args:
        name: open_clip's, with random weights, or ``tiny``.
        device: where torch computes.

    Raises:
        C4CError: it cannot be built, or no such device.
    """
    backbone = load_backbone(name, None if name == TINY else "none", device, "float32")
    precision = resolve_precision("auto", backbone.device, name)
    tried = _SEARCHED if name == TINY else _COMPARE
    scenes = plan_scenes(Recipe(seed=1, train=_CALIBRATE, val=0, test=tried))
    compared = [scene for scene in scenes if scene.twin and scene.id < scene.twin]
    images = _images(backbone, compared)
    ways = {
        _FLOAT: torch_way(backbone, "float32"),
        ("torch", precision): torch_way(backbone, precision),
    }
    if backbone.device.type == "cpu":
        ways |= _by_openvino(backbone, precision, [one for one in scenes if one.split == "train"])
    speed = rates(ways, backbone.preprocessing.fit.shape)
    features = {way: _features(tower, images) for way, tower in ways.items()}
    texts = _texts(backbone, compared) if name == TINY else None
    return [
        [name, *way, f"{speed[way]:.1f}", *_agreement(features[way], features[_FLOAT], texts)]
        for way in ways
    ]


def _by_openvino(backbone: Backbone, precision: str, scenes: list[Scene]) -> dict[Way, Tower]:
    """OpenVINO's ways; none, and a line that says why, where it cannot be used."""
    try:
        graph = converted(backbone)
        say(f"calibrating {backbone.name} for int8")
        return openvino_ways(precision, graph, quantised(graph, _images(backbone, scenes)))
    except C4CError as error:
        say(f"{backbone.name}: {error}")
        return {}


def _images(backbone: Backbone, scenes: list[Scene]) -> Tensor:
    frames = np.concatenate([render_clip(scene.events, scene.look, 1) for scene in scenes])
    return backbone.preprocess(torch.from_numpy(frames)).float()


def _features(tower: Tower, images: Tensor) -> Tensor:
    """[n, D], normalised, float32 on the CPU."""
    with torch.inference_mode():
        batches = (images[first : first + _BATCH] for first in range(0, len(images), _BATCH))
        rows = [tower(batch).float().cpu() for batch in batches]
    return normalize(torch.cat(rows), dim=-1)


def _texts(backbone: Backbone, scenes: list[Scene]) -> Tensor:
    with torch.inference_mode():
        tokens = backbone.tokenize([scene.caption for scene in scenes])
        return normalize(backbone.encode_text(tokens).float().cpu(), dim=-1)


def _agreement(mine: Tensor, theirs: Tensor, texts: Tensor | None) -> list[str]:
    """Cells of the table: cosines of frames, and what a search by mean pooling finds."""
    cosines = (mine * theirs).sum(-1)
    cells = [f"{cosines.mean():.5f}", f"{cosines.min():.5f}"]
    if texts is None:
        return [*cells, "", "", ""]
    own, other = _scores(texts, mine), _scores(texts, theirs)
    top = zip(own.topk(10).indices.tolist(), other.topk(10).indices.tolist(), strict=True)
    shared = np.mean([len({*a} & {*b}) / 10 for a, b in top])
    right = torch.arange(len(texts))
    gains = (own.argmax(1) == right).double() - (other.argmax(1) == right).double()
    first = float((own.argmax(1) == right).double().mean())
    low, high = _interval(gains.numpy())
    gain = f"{gains.mean():+.1%} ({low:+.1%} to {high:+.1%})"
    return [*cells, f"{shared:.1%}", f"{first:.1%}", gain]


def _scores(texts: Tensor, frames: Tensor) -> Tensor:
    clips = normalize(frames.view(len(texts), -1, frames.shape[-1]).mean(1), dim=-1)
    return texts @ clips.T


def _interval(gains: npt.NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the mean difference to float32, by resampling the queries."""
    draws = np.random.default_rng(0).integers(0, len(gains), (2000, len(gains)))
    low, high = np.quantile(gains[draws].mean(1), [0.025, 0.975])
    return float(low), float(high)
