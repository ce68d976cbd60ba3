"""What tests of several rooms look at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import save_file

from c4c.extract.cache import create_cache
from c4c.extract.manifest import plan, save_manifest
from c4c.extract.shards import make_shard, write_shard
from c4c.records import Dataset, Fingerprint


@pytest.fixture(scope="session")
def decoders() -> Callable[..., list[psutil.Process]]:
    """Gives the decoder processes below a process, this one if no other is named."""

    def found(pid: int | None = None) -> list[psutil.Process]:
        alive = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it ended meanwhile
                    if "c4c.extract.worker" in str(child.cmdline()):
                        alive.append(child)
        return alive

    return found


Rows = Mapping[str, np.ndarray]


@pytest.fixture(scope="session")
def write_cache() -> Callable[[Path, Dataset, Rows, Rows], Path]:
    """Gives a function that writes the cache that an extraction with these features leaves."""

    def written(path: Path, dataset: Dataset, clips: Rows, captions: Rows) -> Path:
        """``clips`` holds [frames, D] by clip id (no frames: it failed), ``captions`` [D]."""
        create_cache(path, dataset.name, Fingerprint("m", "w", "s", "p", "f", "d", "float32"))
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
            times = [np.arange(len(row), dtype=np.float32) for row in rows]
            status = ["ok" if len(row) else "failed" for row in rows]
            write_shard(target, make_shard(kind, rows, times, status, texts, dim), path / "tmp")
        return path

    return written
