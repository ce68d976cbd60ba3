"""A batch of one clip has nothing to compare it with, which is said before hours are spent."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c4c.core.records import Caption, Clip, Dataset
from c4c.training.cached import train_head
from c4c.training.config import TrainHeadConfig


@pytest.mark.parametrize(("batch", "said"), [(1, True), (2, False)])
def test_batches_of_one_clip_are_warned_of(
    batch: int,
    said: bool,
    tmp_path: Path,
    write_cache: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    clips = tuple(Clip(f"c{n}", f"{n}.mp4") for n in range(4))
    captions = tuple(Caption(f"c{n}#0", f"c{n}", f"words {n}") for n in range(4))
    draw = np.random.default_rng(0)
    cache = write_cache(
        tmp_path / "cache",
        Dataset("folder", "train", clips, captions),
        {clip.id: draw.normal(size=(2, 64)) for clip in clips},
        {one.id: draw.normal(size=64) for one in captions},
    )
    config = TrainHeadConfig(
        head="seqLSTM", cache=cache, out=tmp_path / "run", epochs=1, batch=batch
    )
    train_head(config)
    assert ("every batch holds one clip" in capsys.readouterr().err) == said
