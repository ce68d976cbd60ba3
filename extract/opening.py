"""The backbone of an extraction, with what computes its vision tower: asked for, or measured.

``--backend auto`` decides once, when a cache begins; later runs on it do as the cache says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from c4c.cache.calibrated import read_calibrated, save_calibrated
from c4c.cache.open import DEFAULT, Cache
from c4c.core.cores import cores
from c4c.core.device import pick_device
from c4c.core.errors import C4CError
from c4c.core.inside import is_there
from c4c.core.progress import say
from c4c.core.records import Clip, Fingerprint
from c4c.core.tensors import state_sha256
from c4c.extract.backbone.activation import with_activation
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.compiled import CompiledTower
from c4c.extract.backbone.graphs import Graph, file_of, require_nncf, require_openvino
from c4c.extract.backbone.load import load_backbone, resolve_precision
from c4c.extract.backbone.openvino_tower import OpenVinoTower, converted
from c4c.extract.backbone.patch3d import has_patch3d
from c4c.extract.backbone.quantise import FRAMES, quantised
from c4c.extract.backbone.ways import openvino_ways, rates, torch_way
from c4c.extract.config import BATCH, ExtractConfig
from c4c.extract.part import request_of
from c4c.extract.video.pool import decode_many

_EACH = 16  # frames of a clip to calibrate on, at least


def cache_folder(config: ExtractConfig) -> Path:
    """Where the features go."""
    return config.cache or DEFAULT / config.dataset


def begun(folder: Path) -> Fingerprint | None:
    """How a cache was begun; ``None`` when it was not."""
    standing = is_there(folder / "cache.json", folder)
    return Cache.open(folder).fingerprint if standing else None


def settled(config: ExtractConfig) -> ExtractConfig:
    """``config`` with the batch, backend and precision of the cache, unless it says them.

    Raises:
        C4CError: a cache that cannot be read, or was begun with another backend.
    """
    folder = cache_folder(config)
    known = begun(folder)
    if config.batch is None:
        config = replace(config, batch=(known.batch if known else None) or BATCH)
    backend, precision = config.backend, config.precision
    if known and backend in (None, "auto"):
        backend = known.engine
    if known and precision == "auto":
        precision = known.dtype
    if backend is None or (backend == "auto" and precision == "int8"):
        backend = "openvino" if precision == "int8" else "torch"
    if known and (backend != known.engine or _differs_in_int8(precision, known)):
        raise C4CError(
            f"{folder} was begun with --backend {known.engine} --precision {known.dtype}; pass "
            "these or none, or another --cache."
        )
    allowed = config.allow_int8 and backend == "auto"
    return replace(config, backend=backend, precision=precision, allow_int8=allowed)


def _differs_in_int8(precision: str, known: Fingerprint) -> bool:
    """Other precisions are compared with the rest of the fingerprint; int8 is work to begin."""
    return precision != known.dtype and "int8" in (precision, known.dtype)


def opened_backbone(
    config: ExtractConfig, folder: Path, known: Fingerprint | None, clips: Sequence[Clip]
) -> Backbone:
    """The backbone asked for, with its backend.

    Args:
        config: settled.
        folder: the cache.
        known: how it was begun; ``None`` when it was not.
        clips: of the dataset, in order: int8 is calibrated on the first ones' frames.

    Raises:
        C4CError: weights, or a backend, that cannot be used.
    """
    if config.backend == "auto":
        return _measured(config, folder, clips)
    if config.backend != "openvino":
        return torch_backbone(config)
    try:
        return _with_openvino(config, folder, known, clips)
    except C4CError as error:
        if known:
            raise C4CError(f"{folder} was begun with OpenVINO. {error}") from None
        raise


def torch_backbone(config: ExtractConfig) -> Backbone:
    """The backbone asked for, by torch."""
    backbone = _loaded(config, config.precision)
    # Clips of a 3d patch differ in length: it would be compiled for each.
    if config.backend == "compile" and not has_patch3d(backbone.model.visual):
        backbone.engine = CompiledTower(backbone.name, backbone.model.visual)
    return backbone


def _loaded(config: ExtractConfig, precision: str) -> Backbone:
    name = with_activation(config.backbone, config.pretrained, config.quick_gelu)
    return load_backbone(
        name, config.pretrained, config.device, precision, config.preprocess, config.tokenizer
    )


def _with_openvino(
    config: ExtractConfig, folder: Path, known: Fingerprint | None, clips: Sequence[Clip]
) -> Backbone:
    require_openvino()
    if config.device is not None and pick_device(config.device).type != "cpu":
        raise C4CError(f"OpenVINO computes on the CPU, and this is --device {config.device}.")
    config = replace(config, device="cpu")
    backbone = _loaded(config, "float32")
    precision = resolve_precision(config.precision, backbone.device, backbone.name)
    if precision != "int8":
        graph = converted(backbone, config.features == "hidden")
        backbone.use(OpenVinoTower(graph, precision), precision)
    elif known and known.calibrated:
        graph = read_calibrated(folder, known.calibrated)
        backbone.use(OpenVinoTower(graph, precision, known.calibrated), precision)
    else:
        require_nncf()
        graph = converted(backbone, config.features == "hidden")
        _take(backbone, folder, calibrated(graph, backbone, config, clips))
    return backbone


def _take(backbone: Backbone, folder: Path, graph: Graph) -> None:
    """Use an int8 tower, and keep it for later runs on the cache."""
    sha256 = state_sha256(graph)
    backbone.use(OpenVinoTower(graph, "int8", sha256), "int8")
    save_calibrated(folder, sha256, file_of(graph))


def calibrated(
    graph: Graph, backbone: Backbone, config: ExtractConfig, clips: Sequence[Clip]
) -> Graph:
    """The int8 tower of ``graph``, with ranges of the first clips' first frames.

    Raises:
        C4CError: no NNCF here, or no clip gave a frame.
    """
    say(f"calibrating {backbone.name} for int8 on the first frames: this may take some minutes")
    return quantised(graph, _first_images(backbone, config, clips))


def _first_images(backbone: Backbone, config: ExtractConfig, clips: Sequence[Clip]) -> Tensor:
    """The first clips' first frames, preprocessed: the same for every slice of a dataset."""
    each = max(_EACH, -(-FRAMES // max(1, len(clips))))
    request = replace(
        request_of(config, backbone.preprocessing.fit),
        max_frames=min(each, config.max_frames or each),
        sampling="head",
    )
    images: list[Tensor] = []
    decoded = decode_many(clips, request, config.workers or cores(), config.deadline)
    with contextlib.closing(decoded):
        for _, clip in decoded:
            if len(clip.frames):
                pixels = torch.from_numpy(clip.frames.pixels)
                images.append(backbone.preprocess(pixels).float())
            if sum(map(len, images)) >= FRAMES:
                break
    if not images:
        raise C4CError("No clip gave a frame to calibrate int8 on; see what fails with torch.")
    return torch.cat(images)[:FRAMES]


def _measured(config: ExtractConfig, folder: Path, clips: Sequence[Clip]) -> Backbone:
    """The fastest backend here; when OpenVINO cannot be used, torch, and why."""
    try:
        if pick_device(config.device).type != "cpu":
            raise C4CError("OpenVINO computes on the CPU.")
        require_openvino()
        backbone = _loaded(config, "float32")
        precision = resolve_precision(config.precision, backbone.device, backbone.name)
        graph = converted(backbone, config.features == "hidden")
        eight = calibrated(graph, backbone, config, clips) if config.allow_int8 else None
    except C4CError as error:
        say(f"backend: torch ({error})")
        return torch_backbone(replace(config, backend="torch", allow_int8=False))
    ways = {("torch", precision): torch_way(backbone, precision)}
    ways |= openvino_ways(precision, graph, eight)
    speed = rates(ways, backbone.preprocessing.fit.shape)
    best = max(speed, key=lambda way: speed[way])
    told = ", ".join(f"{' '.join(way)} {rate:.1f}" for way, rate in speed.items())
    say(f"backend: {' '.join(best)} (frames/s here: {told})")
    if eight and best[1] == "int8":
        _take(backbone, folder, eight)
    else:
        engine = OpenVinoTower(graph, precision) if best[0] == "openvino" else None
        backbone.use(engine, precision)
    return backbone
