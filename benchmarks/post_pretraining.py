"""Post-pretraining on narrated videos, then fine-tuning, against fine-tuning alone.

python benchmarks/post_pretraining.py [--seeds 22 --seeds 32] [--pairs 3]

Narrated videos are made from shapes: long ones in HowTo100M's layout (a CSV and caption.json),
in which every fifth sentence is said one stretch too early or too late. Both ways end with the
same fine-tuning (same clips, epochs, rates, seed) from the shipped tiny backbone; the epoch kept
is chosen on val, the figures are of test. One of the two has been through MIL-NCE before.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import json_option, show

from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import Scene, make_shapes, plan_scenes, write_video
from c4c.extract.datasets.shapes_render import FPS, SECONDS, render_clip
from c4c.extract.pipeline import run_extract
from c4c.retrieval.session import RetrieveConfig, run_evaluate
from c4c.training.config import TrainE2EConfig
from c4c.training.e2e import train_e2e
from c4c.training.result import TrainResult

_STRETCHES = 6  # of a narrated video
_LENGTH = 2 * SECONDS  # seconds of a stretch: two events
_MISPLACED = 0.2  # share of sentences said beside what they are about


def make_narrated(root: Path, videos: int, seed: int, held: set[str]) -> None:
    """Long videos of shapes and what is said in them, as HowTo100M has them.

    Args:
        root: folder of the videos and the two files.
        videos: how many.
        seed: of what they show.
        held: captions that are to be found later, and so are not said here.
    """
    root.mkdir(parents=True)
    most = videos * _STRETCHES + len(held)
    planned = plan_scenes(Recipe(seed=seed, train=most, val=0, test=0))
    scenes = [scene for scene in planned if scene.caption not in held]
    generator = np.random.default_rng(seed)
    told: dict[str, Any] = {}
    for number in range(videos):
        own = scenes[number * _STRETCHES : (number + 1) * _STRETCHES]
        frames = [render_clip(scene.events, scene.look) for scene in own]
        write_video(root / f"video{number:04d}.mp4", np.concatenate(frames), FPS)
        starts = [_LENGTH * place for place in range(_STRETCHES)]
        told[f"video{number:04d}"] = {
            "start": starts,
            "end": [start + _LENGTH for start in starts],
            "text": narrate(own, generator),
        }
    (root / "caption.json").write_text(json.dumps(told))
    (root / "HowTo100M_v1.csv").write_text("video_id\n" + "\n".join(told) + "\n")


def narrate(scenes: list[Scene], generator: np.random.Generator) -> list[str]:
    """The sentences of a video, some of them changed with the next one."""
    said = [scene.caption for scene in scenes]
    for place in range(len(said) - 1):
        if generator.random() < _MISPLACED / 2:
            said[place], said[place + 1] = said[place + 1], said[place]
    return said


def train(folder: Path, name: str, seed: int, **settings: Any) -> TrainResult:
    """One training of the tiny backbone with seqLSTM."""
    given: dict[str, Any] = {"batch": 48, "lr": 8e-4, "coef_lr": 0.5, "max_frames": 8, **settings}
    return train_e2e(
        TrainE2EConfig(
            head="seqLSTM",
            backbone="tiny",
            out=folder / name,
            frame_cache=folder / "frames" / given["dataset"],
            seed=seed,
            **given,
        )
    )


def measure(folder: Path, root: Path, result: TrainResult) -> dict[str, float]:
    """Figures of a checkpoint on test, in percent."""
    cache = result.last.parent / "cache"
    run_extract(
        ExtractConfig(
            dataset="shapes",
            root=root,
            cache=cache,
            splits=("test",),
            backbone="tiny",
            pretrained=str(result.checkpoint),
        )
    )
    found = run_evaluate(RetrieveConfig(cache=cache, checkpoint=result.checkpoint))
    return {
        "t2v_r1": found.metrics["t2v"].r1,
        "v2t_r1": found.metrics["v2t"].r1,
        "twin_accuracy": found.twins or 0.0,
    }


def compare(folder: Path, seed: int, pairs: int, narrated: int, clips: int) -> dict[str, Any]:
    """Both ways on the data of one seed."""
    begun = time.monotonic()
    root, wild = folder / "shapes", folder / "narrated"
    recipe = Recipe(seed=seed, train=clips, val=200, test=400)
    make_shapes(root, recipe)
    held = {scene.caption for scene in plan_scenes(recipe) if scene.split != "train"}
    make_narrated(wild, narrated, seed + 1000, held)
    before = train(
        folder,
        "narrated-run",
        seed,
        dataset="howto100m",
        root=wild,
        videos=wild,
        objective="mil-nce",
        pairs=pairs,
        eval_split="none",
        epochs=3,
    )
    fine: dict[str, Any] = {"dataset": "shapes", "root": root, "epochs": 3}
    start = {"pretrained": str(before.checkpoint), "init_head": before.checkpoint}
    after = train(folder, "after", seed, **fine, **start)
    alone = train(folder, "alone", seed, **fine)
    found = {"after": measure(folder, root, after), "alone": measure(folder, root, alone)}
    gains = {key: value - found["alone"][key] for key, value in found["after"].items()}
    return {"seed": seed, **found, "gain": gains, "seconds": round(time.monotonic() - begun)}


@click.command()
@json_option
@click.option("--seeds", multiple=True, default=(22, 32), show_default=True)
@click.option("--pairs", default=3, show_default=True, help="Stretches that belong together.")
@click.option("--narrated", default=300, show_default=True, help="Narrated videos.")
@click.option("--clips", default=600, show_default=True, help="Clips to fine-tune on.")
def main(seeds: tuple[int, ...], pairs: int, narrated: int, clips: int) -> None:
    """Print a line of JSON for each seed."""
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            show(compare(Path(folder), seed, pairs, narrated, clips))


if __name__ == "__main__":
    main()
