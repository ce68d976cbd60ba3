"""The ways to compute a vision tower on this machine, side by side, and how fast each is."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.graphs import Graph
from c4c.extract.backbone.openvino_tower import OpenVinoTower, computes_bfloat16
from c4c.extract.backbone.text import DTYPES

Way = tuple[str, str]  # backend and precision
Tower = Callable[[Tensor], Tensor]  # of float32 images
_TRIED, _SECONDS = 8, 2.0  # a batch that is measured, and how long


def torch_way(backbone: Backbone, precision: str) -> Tower:
    """The tower by torch; a copy, as what is cast to bfloat16 does not come back."""
    dtype = DTYPES[precision]
    visual = copy.deepcopy(backbone.model.visual).to(dtype)

    def tower(images: Tensor) -> Tensor:
        features = visual(images.to(backbone.device, dtype))
        found: Tensor = features[0] if isinstance(features, tuple) else features
        return found

    return tower


def openvino_ways(precision: str, graph: Graph, eight: Graph | None) -> dict[Way, Tower]:
    """The tower by OpenVINO: in ``precision``, where it computes in that, and in int8."""
    ways: dict[Way, Tower] = {}
    if precision == "float32" or computes_bfloat16():
        ways["openvino", precision] = OpenVinoTower(graph, precision)
    if eight:
        ways["openvino", "int8"] = OpenVinoTower(eight, "int8")
    return ways


def rates(ways: Mapping[Way, Tower], shape: tuple[int, int]) -> dict[Way, float]:
    """Frames a second of each, of a small batch.

    They are tried in turn, and the fastest try counts: what else runs here slows all of them.

    Args:
        ways: the towers.
        shape: of a frame.
    """
    images = torch.zeros(_TRIED, 3, *shape)
    taken: dict[Way, list[float]] = {way: [] for way in ways}
    with torch.inference_mode():
        for tower in ways.values():
            tower(images).cpu()  # the first one is slow
        until = time.perf_counter() + _SECONDS * len(ways)
        while not all(taken.values()) or time.perf_counter() < until:
            for way, tower in ways.items():
                began = time.perf_counter()
                tower(images).cpu()
                taken[way].append(time.perf_counter() - began)
    return {way: _TRIED / min(seconds) for way, seconds in taken.items()}
