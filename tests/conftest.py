"""What tests of several rooms look at."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

from c4c.cache.manifests import save_manifest
from c4c.cache.open import commit_shard, create_cache
from c4c.cache.plan import plan
from c4c.cache.shard import make_shard
from c4c.core.records import Dataset, Fingerprint

# Property tests try the same cases at every run, so that a fresh clone sees what the author saw.
# By hand, others and more of them: HYPOTHESIS_PROFILE=drawn make test
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=80)
settings.register_profile("drawn", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests name is not remembered beyond them, nor what the user named before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def decoders() -> Callable[..., list[psutil.Process]]:
    """Gives the decoder processes below a process, this one if no other is named."""

    def found(pid: int | None = None) -> list[psutil.Process]:
        alive = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it ended meanwhile
                    if "c4c.extract.video.worker" in str(child.cmdline()):
                        alive.append(child)
        return alive

    return found


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small videos of shapes: 48 clips to train on, 8 each (four pairs of twins) beside them."""
    from c4c.extract.datasets.recipes import Recipe
    from c4c.extract.datasets.shapes import make_shapes

    root = tmp_path_factory.mktemp("data") / "shapes"
    make_shapes(root, Recipe(seed=5, train=48, val=8, test=8))
    return root


@pytest.fixture(scope="session")
def shapes_cache(shapes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their features by the shipped backbone; 8 frames a clip."""
    from c4c.extract.config import ExtractConfig
    from c4c.extract.pipeline import run_extract

    cache = tmp_path_factory.mktemp("cache") / "shapes"
    run_extract(
        ExtractConfig(dataset="shapes", root=shapes_root, cache=cache, backbone="tiny", workers=1)
    )
    return cache


Rows = Mapping[str, np.ndarray]


@pytest.fixture(scope="session")
def write_cache() -> Callable[[Path, Dataset, Rows, Rows], Path]:
    """Gives a function that writes the cache that an extraction with these features leaves."""

    def written(
        path: Path, dataset: Dataset, clips: Rows, captions: Rows, fps: float | None = None
    ) -> Path:
        """``clips`` holds [frames, D] by clip id (no frames: it failed), ``captions`` [D]."""
        made_by = Fingerprint("m", "w", "s", "p", f"fps={fps}" if fps else "f", "d", "float32")
        cache = create_cache(path, dataset.name, made_by)
        dim = next(iter(clips.values())).shape[1]
        init = {name: torch.eye(dim) for name in ("visual_proj", "text_proj")}
        save_file({**init, "logit_scale": torch.tensor(3.0)}, path / "head-init.safetensors")
        manifest = plan(dataset, None, 4)
        save_manifest(path, manifest)
        for target, part in manifest.shards(path):
            kind = target.parent.name
            held = clips if kind == "clips" else {key: row[None] for key, row in captions.items()}
            rows = [held[name].astype(np.float16) for name in part.ids]
            own = {caption.id: caption for caption in dataset.captions}
            texts = {"ids": list(part.ids), "messages": [""] * len(rows)}
            if kind == "captions":
                texts["clip_ids"] = [own[name].clip_id for name in part.ids]
                texts["texts"] = [own[name].text for name in part.ids]
            times = [np.arange(len(row), dtype=np.float32) / np.float32(fps or 1) for row in rows]
            status = ["ok" if len(row) else "failed" for row in rows]
            commit_shard(cache, target, make_shard(kind, rows, times, status, texts, dim))
        return path

    return written
