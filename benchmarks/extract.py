"""Extraction against the script that people write, and against the backbone alone.

    python benchmarks/extract.py --json FILE

One run, the same generated videos, all ways in turn, repeated; medians of the repeats:

- script: PyAV, open_clip's own PIL transform frame by frame, eager float32, a clip a batch;
- c4c, by each backend and precision that this machine has: the pipeline of ``c4c extract``,
  decoder processes and all, from the first frame to the shard in memory (starting the processes
  included; converting and calibrating not, they are told apart);
- backbone: the same numerics on tensors that are ready, batches as in the pipeline.

And decoding alone, a process, one frame a second at the size of the backbone: each frame mode's
times real time over a minute of video with a key frame every 2 s, in turn, repeated likewise.

Beside the clock stands the time that the processors computed, which other programs on the same
machine disturb less.

Weights are random (seeded): speed and rounding do not ask what a tower has learnt.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import torch

from c4c.core.errors import C4CError
from c4c.core.files import write_json
from c4c.core.records import Clip
from c4c.extract.backbone.backbone import Backbone
from c4c.extract.backbone.compiled import CompiledTower
from c4c.extract.backbone.load import load_backbone, resolve_precision
from c4c.extract.backbone.openvino_tower import converted
from c4c.extract.backbone.ways import openvino_ways
from c4c.extract.config import ExtractConfig
from c4c.extract.opening import calibrated
from c4c.extract.part import extract_part
from c4c.extract.video.decode import decode_clip
from c4c.extract.video.request import FRAME_MODES, Request

SIZES = ((320, 240), (480, 270), (640, 360))
RATE = 25  # frames a second of the videos
FRAMES = 12  # of a clip, at 1 a second
Features = list[npt.NDArray[np.float32]]


def make_video(path: Path, seed: int, seconds: int = 0, gop: int = 250) -> None:
    """A moving blurred pattern with some grain, h264, 10 to 20 seconds by default."""
    import av

    draw = np.random.default_rng(seed)
    width, height = SIZES[seed % len(SIZES)]
    seconds = seconds or int(draw.integers(10, 21))
    coarse = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    picture = av.VideoFrame.from_ndarray(coarse, format="rgb24")
    wide = picture.to_ndarray(width=2 * width, height=height, interpolation="BICUBIC")
    grain = draw.integers(-6, 7, (height, width, 1))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(
            "libx264", rate=RATE, options={"preset": "veryfast", "g": str(gop)}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(seconds * RATE):
            left = number * width // (seconds * RATE)
            shown = wide[:, left : left + width] + grain
            pixels = np.clip(shown, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def script(clips: Sequence[Clip], model: Any, transform: Any) -> Features:
    """What people write: decode, PIL transform and float32 features, a clip after the other."""
    import av

    found = []
    for clip in clips:
        images: list[torch.Tensor] = []
        with av.open(clip.path) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % RATE == 0:
                    images.append(transform(frame.to_image()))
                if len(images) == FRAMES:
                    break
        with torch.no_grad():
            found.append(model.encode_image(torch.stack(images)).numpy())
    return found


def pipeline(clips: Sequence[Clip], backbone: Backbone, config: ExtractConfig) -> Features:
    """The same by c4c."""
    shard = extract_part(clips, backbone, config)
    return [shard.row(place).astype(np.float32) for place in range(len(clips))]


def alone(batches: Sequence[torch.Tensor], backbone: Backbone) -> None:
    """The backbone on ready tensors."""
    with torch.inference_mode():
        for batch in batches:
            backbone.encode_frames(batch)


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, seconds of computing (ended decoder processes included), and what came out."""
    began, before = time.perf_counter(), sum(os.times()[:4])
    found = work()
    return time.perf_counter() - began, sum(os.times()[:4]) - before, found


def cosines(mine: Features, theirs: Features) -> npt.NDArray[np.float64]:
    """Cosine of every frame's two features; both sides must have the same frames."""
    a, b = np.concatenate(mine).astype(np.float64), np.concatenate(theirs).astype(np.float64)
    if [len(one) for one in mine] != [len(one) for one in theirs]:
        raise SystemExit("the script and c4c do not have the same numbers of frames")
    products: npt.NDArray[np.float64] = (a * b).sum(1)
    return products / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def decoding(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds of video decoded in a second, by frame mode."""
    make_video(folder / "long.mp4", 2, 60, 2 * RATE)
    clip = Clip("long", str(folder / "long.mp4"))
    seconds: dict[str, list[float]] = {mode: [] for mode in FRAME_MODES}
    for _ in range(repeats):
        for mode, all_of in seconds.items():
            took, _, found = timed(partial(decode_clip, clip, Request(mode=mode, size=224)))
            if found.status != "ok":
                raise SystemExit(f"{mode}: {found.message}")
            all_of.append(took)
    return {mode: round(60 / median(all_of), 1) for mode, all_of in seconds.items()}


def backbones(compiled: bool, clips: Sequence[Clip]) -> tuple[dict[str, Backbone], float]:
    """A backbone for each way of this machine, all of the same weights; seconds to prepare them."""
    began = time.perf_counter()
    torch.manual_seed(0)
    plain = load_backbone("ViT-B-32", "none", "cpu", "float32")
    half = resolve_precision("auto", plain.device, plain.name)
    config = ExtractConfig(dataset="folder")
    found = {}
    for precision in dict.fromkeys(("float32", half)):
        found[f"torch {precision}"] = with_engine(plain, None, precision)
    try:
        graph = converted(plain)
        ready = calibrated(graph, plain, config, clips)
        for way, tower in openvino_ways(half, graph, ready).items():
            found[" ".join(way)] = with_engine(plain, tower, way[1])
    except C4CError as error:
        click.echo(f"without OpenVINO: {error}", err=True)
    if compiled:
        tower = CompiledTower(plain.name, copy.deepcopy(plain.model.visual))
        found["compile float32"] = with_engine(plain, tower, "float32")
    return found, time.perf_counter() - began


def with_engine(plain: Backbone, engine: Any, precision: str) -> Backbone:
    """A copy of a backbone that computes in another way."""
    own = replace(plain, model=copy.deepcopy(plain.model))
    own.use(engine, precision)
    return own


def measure(folder: Path, count: int, repeats: int, batch: int, compiled: bool) -> dict[str, Any]:
    """Run all of them in turn."""
    from open_clip import image_transform

    clips = [Clip(f"clip{number:03}", str(folder / f"{number}.mp4")) for number in range(count)]
    for number, clip in enumerate(clips):
        make_video(Path(clip.path), number)
    ours, preparing = backbones(compiled, clips)
    plain = ours["torch float32"]
    transform = image_transform(
        plain.image_size, False, mean=plain.preprocessing.mean, std=plain.preprocessing.std
    )
    config = ExtractConfig(dataset="folder", max_frames=FRAMES, sampling="head", batch=batch)
    ready = torch.randint(0, 256, (count * FRAMES, 224, 224, 3), dtype=torch.uint8)
    script(clips[:1], plain.model, transform)
    ways: dict[str, Callable[[], Any]] = {
        "script": lambda: script(clips, plain.model, transform),
    }
    for name, backbone in ours.items():
        batches = list(backbone.preprocess(ready).split(batch))
        alone(batches[:1], backbone)
        ways[f"c4c {name}"] = partial(pipeline, clips, backbone, config)
        ways[f"backbone {name}"] = partial(alone, batches, backbone)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    computing: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(repeats):
        for name, work in ways.items():
            took, busy, found[name] = timed(work)
            seconds[name].append(took)
            computing[name].append(busy)
    cpu = {name: median(all_of) for name, all_of in computing.items()}
    speed = {name: count / median(all_of) for name, all_of in seconds.items()}
    like = {name: cosines(found[f"c4c {name}"], found["script"]) for name in ours}
    return {
        "clips": count,
        "frames_a_clip": FRAMES,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[1], 1),
        "preparing_s": round(preparing, 1),
        "clips_per_second": {name: round(value, 3) for name, value in speed.items()},
        "decoding_times_real_time": decoding(folder, repeats),
        "over_script": {name: round(speed[f"c4c {name}"] / speed["script"], 2) for name in ours},
        "share_of_backbone": {
            name: round(speed[f"c4c {name}"] / speed[f"backbone {name}"], 3) for name in ours
        },
        "cpu_seconds": {name: round(value, 2) for name, value in cpu.items()},
        "cpu_script_over": {name: round(cpu["script"] / cpu[f"c4c {name}"], 2) for name in ours},
        "cosine_min": {name: round(float(row.min()), 5) for name, row in like.items()},
        "cosine_mean": {name: round(float(row.mean()), 5) for name, row in like.items()},
        "seconds": {name: [round(one, 2) for one in all_of] for name, all_of in seconds.items()},
    }


@click.command()
@click.option("--clips", default=32, show_default=True, help="A multiple of 16 fills batches.")
@click.option("--repeats", default=2, show_default=True)
@click.option("--batch", default=64, show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="torch's compiler too.")
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(clips: int, repeats: int, batch: int, compiled: bool, path: Path | None) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), clips, repeats, batch, compiled)
    click.echo(json.dumps(found, indent=1))
    if path:
        write_json(path, found)


if __name__ == "__main__":
    main()
