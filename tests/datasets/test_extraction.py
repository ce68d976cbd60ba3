"""From each benchmark's layout, with real videos, to a cache that can be evaluated."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c4c.cache.open import Cache
from c4c.core.config import DatasetSource
from c4c.core.sampling import View
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets.shapes import write_video
from c4c.extract.pipeline import run_extract

FRAMES = {  # of a video of ten seconds at a frame a second: clip, and the frames it must have
    "msrvtt": ("test", "video9770", 10),
    "didemo": ("train", "54322086@N00_2408598493_274c77d26a", 10),  # no suffix, end past the end
    "howto100m": ("train", "nVbIUDjzWY4@0.08-4", 4),
}


@pytest.mark.parametrize("name", FRAMES)
def test_every_clip_of_a_layout_is_extracted(
    name: str, build: Callable[[str], DatasetSource], tmp_path: Path
) -> None:
    source = build(name)
    video = tmp_path / "video.mp4"
    write_video(video, np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), np.uint8), fps=2)
    for path in source.root.rglob("*"):
        if path.is_file() and path.read_bytes() == b"x":
            path.write_bytes(video.read_bytes())
    video.unlink()
    cache = tmp_path / "cache"
    split, clip, frames = FRAMES[name]
    done = run_extract(
        ExtractConfig(
            dataset=name,
            root=source.root,
            cache=cache,
            splits=(split,),
            backbone="tiny",
            workers=1,
            device="cpu",
        )
    )
    assert (done.clips, done.failed) == (done.expected, ())
    clips = Cache.open(cache).clips(split)
    batch = clips.batch(np.array([list(clips.ids).index(clip)]), View(64))
    assert batch.lengths.tolist() == [frames]
