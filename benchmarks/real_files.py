"""Whole extractions of long files: times real time of each backend and frame mode.

    python benchmarks/real_files.py --minutes 10 --json FILE

Files are made by a fixed recipe: gliding pictures with grain and a cut every 4 seconds, 25 frames
a second, B-frames, a key frame every so many seconds, at 720p or 1080p. Each way is
``c4c extract`` (ViT-B/32, random weights of a fixed seed) into a cache of its own, in turn; the
tower is converted and calibrated before, which is told apart.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from c4c.core.errors import C4CError
from c4c.core.files import write_json
from c4c.extract.backbone.load import load_backbone, resolve_precision
from c4c.extract.config import ExtractConfig
from c4c.extract.pipeline import prepare, run_extract

RATE = 25
STRETCH = 8  # seconds, in which key frames of 1, 2, 4 and 8 s come out even
SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
CODECS = {
    "h264": ("libx264", {"preset": "veryfast", "sc_threshold": "0"}),
    "hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
}
WAYS = (
    ("torch float32, exact", {"backend": "torch", "precision": "float32"}),
    ("torch bfloat16, exact", {"backend": "torch", "precision": "bfloat16"}),
    ("openvino bfloat16, exact", {"backend": "openvino", "precision": "bfloat16"}),
    ("openvino float32, exact", {"backend": "openvino", "precision": "float32"}),
    ("openvino int8, exact", {"backend": "openvino", "precision": "int8"}),
    ("openvino int8, near", {"precision": "int8", "frame_mode": "near"}),
    ("openvino int8, key", {"precision": "int8", "frame_mode": "key"}),
)


def make_file(path: Path, size: tuple[int, int], seconds: int, gop: float, codec: str) -> None:
    """A file of the recipe: one stretch, encoded once, over and over."""
    import av

    stretch = path.with_name("stretch.mp4")
    _encode(stretch, size, gop, codec)
    with av.open(str(stretch)) as source, av.open(str(path), "w") as target:
        read = source.streams.video[0]
        written = target.add_stream_from_template(read)
        packets = [one for one in source.demux(read) if one.dts is not None]
        step = round(STRETCH / read.time_base)
        for turn in range(-(-seconds // STRETCH)):
            for packet in packets:
                packet.pts += step if turn else 0
                packet.dts += step if turn else 0
                packet.stream = written
                target.mux(packet)
    stretch.unlink()


def _encode(path: Path, size: tuple[int, int], gop: float, codec: str) -> None:
    import av

    width, height = size
    encoder, options = CODECS[codec]
    draw = np.random.default_rng(0)
    grain = draw.integers(-4, 5, (4, height, width, 1), dtype=np.int16)
    with av.open(str(path), "w") as container:
        options = {**options, "g": str(round(gop * RATE))}
        stream: Any = container.add_stream(encoder, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        half = STRETCH * RATE // 2
        for number in range(2 * half):
            if number % half == 0:
                coarse = draw.integers(0, 256, (9, 32, 3), dtype=np.uint8)
                picture = av.VideoFrame.from_ndarray(coarse, format="rgb24")
                wide = picture.to_ndarray(width=2 * width, height=height, interpolation="BICUBIC")
            left = number % half * width // half
            shown = wide[:, left : left + width] + grain[number % 4]
            pixels = np.clip(shown, 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def extraction(folder: Path, way: dict[str, Any], seconds: float) -> dict[str, float]:
    """One way: seconds to prepare it, and how many times real time the rest runs."""
    config = ExtractConfig(
        dataset="folder",
        root=folder / "videos",
        videos=folder / "videos",
        cache=Path(tempfile.mkdtemp(dir=folder)) / "cache",
        backbone="ViT-B-32",
        pretrained=str(folder / "w.safetensors"),
        quick_gelu=False,
        device="cpu",
        **way,
    )
    began = time.perf_counter()
    prepare(config)  # converted and calibrated, as a first run does
    ready = time.perf_counter()
    run_extract(config)
    took = time.perf_counter() - ready
    return {"first_run_s": round(ready - began, 1), "times_real_time": round(seconds / took, 2)}


def measure(minutes: float, files: int, size: str, gop: float, codec: str) -> dict[str, Any]:
    """Every way that this machine has, on the same files."""
    seconds = round(60 * minutes)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "videos").mkdir()
        for number in range(files):
            make_file(folder / f"videos/{number}.mp4", SIZES[size], seconds // files, gop, codec)
        torch.manual_seed(0)
        load_backbone("ViT-B-32", "none", "cpu", "float32").save(folder / "w.safetensors")
        fast = resolve_precision("auto", torch.device("cpu"), "ViT-B-32")
        for words, way in WAYS:
            if way["precision"] == "bfloat16" != fast:
                continue  # without instructions for it, it takes hours
            try:
                found[words] = extraction(folder, way, seconds)
            except C4CError as error:
                found[words] = str(error)
            click.echo(f"{words}: {found[words]}", err=True)
    return {
        "video": f"{files} x {codec} {size}, {minutes:g} min in all, a key frame each {gop:g} s",
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[1], 1),
        "ways": found,
    }


@click.command()
@click.option("--minutes", default=10.0, show_default=True, help="Of video, in all files.")
@click.option("--files", default=2, show_default=True)
@click.option("--size", type=click.Choice(list(SIZES)), default="1080p", show_default=True)
@click.option("--gop", default=2.0, show_default=True, help="Seconds between key frames.")
@click.option("--codec", type=click.Choice(list(CODECS)), default="h264", show_default=True)
@click.option("--json", "path", type=click.Path(path_type=Path))
def main(minutes: float, files: int, size: str, gop: float, codec: str, path: Path | None) -> None:
    """Measure and print."""
    found = measure(minutes, files, size, gop, codec)
    click.echo(json.dumps(found, indent=1))
    if path:
        write_json(path, found)


if __name__ == "__main__":
    main()
