"""Splits of real caches with features that a test chooses."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c4c.cache.open import Cache, CaptionFeatures, ClipFeatures
from c4c.core.records import Caption, Clip, Dataset

DIM = 64
Split = tuple[ClipFeatures, CaptionFeatures]
MakeSplit = Callable[..., Split]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that float16 holds as they are."""
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return drawn.astype(np.float16).astype(np.float32)


@pytest.fixture
def make_split(tmp_path: Path, write_cache: Callable[..., Path]) -> MakeSplit:
    """Gives a split of a real cache: clips 2i and 2i + 1 are twins, captions go round them."""

    def made(
        features: np.ndarray | None = None,
        text: np.ndarray | None = None,
        gone: tuple[str, ...] = (),
        failed: tuple[str, ...] = (),
    ) -> Split:
        """Clips [N, T, D], 8 of 3 equal frames if none are given; captions [Q, D], theirs."""
        features = random(8, 1, DIM).repeat(3, 1) if features is None else features
        text = features[:, 0] if text is None else text
        ids = [f"clip{place:02}" for place in range(len(features))]
        twins = {name: ids[place ^ 1] for place, name in enumerate(ids) if place ^ 1 < len(ids)}
        captions = tuple(
            Caption(f"c{row:02}", ids[row % len(ids)], f"about {ids[row % len(ids)]}")
            for row in range(len(text))
        )
        clips = tuple(Clip(name, f"{name}.mp4") for name in ids)
        dataset = Dataset("folder", "test", clips, captions, gone, twins)
        held = {
            name: row[: 0 if name in failed else None]
            for name, row in zip(ids, features, strict=True)
        }
        words = {one.id: row for one, row in zip(captions, text, strict=True)}
        path = tmp_path / f"cache{len(list(tmp_path.iterdir()))}"
        cache = Cache.open(write_cache(path, dataset, held, words))
        return cache.clips("test"), cache.captions("test")

    return made
