"""What frames that decode faster cost in the search of moments.

    python benchmarks/frame_modes.py --checkpoint demo/runs/seqTransf/best

The films of ``shapes-moments`` are encoded with a key frame every 1, 2, 4 and 8 seconds and
B-frames, and extracted with each frame mode at the same rate. Every question is asked of all of
them; the figure is R@1 at IoU 0.5 of moments, and its difference from ``exact`` on the same files,
paired by question, with an interval over films.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import av
import click
import numpy as np
import numpy.typing as npt
from figures import json_option, show  # benchmarks/figures.py

from c4c import Searcher
from c4c.core.limits import HITS
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import MomentsRecipe
from c4c.extract.datasets.shapes_moments import plan_films, render_film
from c4c.extract.datasets.shapes_render import FPS
from c4c.extract.pipeline import run_extract
from c4c.extract.video.request import FRAME_MODES
from c4c.retrieval.moment_metrics import overlap, read_targets
from c4c.retrieval.statistics import interval

GOPS = (1, 2, 4, 8)  # seconds between key frames


def encode(path: Path, frames: npt.NDArray[np.uint8], gop: int) -> None:
    """H.264 with B-frames, and a key frame every ``gop`` seconds and nowhere else."""
    options = {"crf": "14", "g": str(gop * FPS), "bf": "2", "sc_threshold": "0", "threads": "1"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def right(folder: Path, config: dict[str, Any], checkpoint: Path) -> npt.NDArray[np.float64]:
    """Of each question, whether its first hit is the moment asked for; 0 or 1."""
    cache = folder / "cache"
    settings = ExtractConfig(dataset="folder", cache=cache, backbone="tiny", **config)
    run_extract(settings)
    targets = [one for one in read_targets(folder.parent / "moments.jsonl") if one.video]
    with Searcher(cache, checkpoint, device="cpu") as searcher:
        answers = searcher.stream((one.query for one in targets), HITS)
        pairs = zip(targets, answers, strict=True)
        good = [bool(hits) and overlap(hits[0], one) >= 0.5 for one, hits in pairs]
    shutil.rmtree(cache)
    return np.array(good, np.float64)


@click.command()
@json_option
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True)
@click.option("--videos", default=250, show_default=True, help="Four questions each.")
@click.option("--seed", default=5, show_default=True)
@click.option("--fps", default=2.0, show_default=True)
def main(checkpoint: Path, videos: int, seed: int, fps: float) -> None:
    """Print a line of JSON for each spacing of key frames and each mode."""
    films, _ = plan_films(MomentsRecipe(seed=seed, videos=videos))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        rows = [query for film in films for query in film.queries]
        (root / "moments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        for gop in GOPS:
            (root / f"{gop}" / "videos").mkdir(parents=True)
        for film in films:
            frames = render_film(film)
            for gop in GOPS:
                encode(root / f"{gop}" / "videos" / f"{film.id}.mp4", frames, gop)
        owners = [str(row["video"]) for row in rows]
        for gop in GOPS:
            folder = root / f"{gop}"
            good = {
                mode: right(
                    folder,
                    {"root": folder / "videos", "fps": fps, "frame_mode": mode},
                    checkpoint,
                )
                for mode in FRAME_MODES
            }
            for mode, own in good.items():
                lost = interval(100 * (good["exact"] - own), owners)
                show(
                    {
                        "key frame every s": gop,
                        "mode": mode,
                        "questions": len(own),
                        "R@1 at IoU 0.5": round(100 * float(own.mean()), 1),
                        "points lost": round(lost.value, 1),
                        "95 % interval": [round(lost.low, 1), round(lost.high, 1)],
                    }
                )


if __name__ == "__main__":
    main()
