# ruff: noqa: D102 - ``Case`` says what each method is for
"""The commands that ``kill.py`` kills: what each does, has acknowledged, and must come to.

All work on one little dataset. A case's folder is gone on with kill after kill until a run ends by
itself; then its result is compared with that of a run that nothing disturbed.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from c4c.cache.compact import compact
from c4c.cache.inspect import damage
from c4c.cache.open import Cache
from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.schema import read_record
from c4c.extract import part
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets import load_dataset
from c4c.extract.pipeline import run_extract
from c4c.heads.checkpoint import load_checkpoint, read_tensors, standing
from c4c.retrieval import gallery_build
from c4c.retrieval.gallery import STATE, Gallery, State
from c4c.retrieval.gallery_refresh import SCHEMA
from c4c.retrieval.searcher import Searcher
from c4c.training.journal import read_journal

# What stands: by name the bytes that may not change, or a count that may only grow.
Stands = dict[str, bytes | int]
GRID = """
question = "Which number of frames?"
[settings]
head = "seqLSTM"
epochs = 1
batch = 8
[grid]
max_frames = [4, 6]
"""


class Case(ABC):
    """A command that writes.

    Args:
        root: the dataset.
        base: a complete cache of it, of small shards.
        shared: a folder for what all rounds of this case read.
    """

    def __init__(self, root: Path, base: Path, shared: Path) -> None:
        self.root, self.base, self.shared = root, base, shared

    def begin(self, here: Path) -> None:
        """Make a fresh working folder."""
        here.mkdir()

    @abstractmethod
    def work(self, here: Path) -> None:
        """What is killed; run again it goes on."""

    @abstractmethod
    def stands(self, here: Path) -> Stands:
        """What has been acknowledged so far."""

    @abstractmethod
    def result(self, here: Path) -> dict[str, Any]:
        """What a finished run leaves, as far as it does not tell of time and place."""

    def wrong(self, here: Path, whole: dict[str, Any]) -> list[str]:
        """What is not as it may be at any moment, a line each."""
        return []

    def halves(self, here: Path) -> set[str]:
        """What is being written under a temporary name, or was when a run was killed."""
        found = set()
        for folder, folders, files in os.walk(here):
            inside = os.path.basename(folder) == "tmp"
            for name in [*folders, *files]:
                if inside or (name.startswith(".") and ("tmp" in name or "former" in name)):
                    found.add(os.path.join(folder, name))
        return found

    def extraction(self, cache: Path, splits: tuple[str, ...] = ("train",)) -> ExtractConfig:
        """The extraction of the little dataset."""
        return ExtractConfig(
            dataset="shapes", root=self.root, cache=cache, splits=splits, backbone="tiny",
            workers=1, shard_clips=2, device="cpu",
        )  # fmt: skip


def shards(cache: Path) -> dict[str, bytes]:
    """Every shard that stands, and those that were set aside."""
    found = (cache / "shards").rglob("*.h5*")
    return {str(path.relative_to(cache)): path.read_bytes() for path in found}


# What verify says of a cache that is not complete yet; whether what stood has gone is told apart.
NOT_YET = (" is missing; ", "head-init.safetensors does not exist; ")


class Extract(Case):
    """``c4c extract``: a shard that stands is whole, and stays."""

    def work(self, here: Path) -> None:
        part._EVERY = 0.0  # so that every clip is kept in a piece before its shard is complete
        run_extract(self.extraction(here / "cache"))

    def stands(self, here: Path) -> Stands:
        init = here / "cache/head-init.safetensors"
        start = {init.name: init.read_bytes()} if init.exists() else {}
        return {**shards(here / "cache"), **start}

    def result(self, here: Path) -> dict[str, Any]:
        # What a kill leaves under a temporary name is compaction's, once it is old.
        plans = sorted((here / "cache").glob("[!.]*.*"))
        plans += sorted((here / "cache/manifests").glob("[!.]*"))
        left = sorted(path.name for path in (here / "cache").glob("pieces/*/*/*"))
        plain = {path.name: path.read_bytes() for path in plans}
        return {**shards(here / "cache"), **plain, "pieces left": left}

    def wrong(self, here: Path, whole: dict[str, Any]) -> list[str]:
        now = shards(here / "cache")
        found = [f"{name} is not whole" for name, data in now.items() if whole.get(name) != data]
        if (here / "cache/cache.json").exists():
            lines = damage(here / "cache")
            found += [line for line in lines if not any(words in line for words in NOT_YET)]
        return found


class Compact(Case):
    """``c4c cache compact``: at any moment every clip and caption has its features."""

    def begin(self, here: Path) -> None:
        here.mkdir()
        shutil.copytree(self.base, here / "cache")

    def work(self, here: Path) -> None:
        compact(here / "cache", 8)

    def stands(self, here: Path) -> Stands:
        cache = Cache.open(here / "cache")
        found: Stands = {}
        for split in cache.splits:
            clips, captions = cache.clips(split), cache.captions(split)
            for place, name in enumerate(clips.ids):
                found[f"{split} {name}"] = b"".join(part.tobytes() for part in clips.read(place))
            words = captions.batch(np.arange(len(captions))).numpy()
            found[f"{split} captions"] = words.tobytes()
        return found

    def result(self, here: Path) -> dict[str, Any]:
        plans = sorted((here / "cache/manifests").iterdir())
        return {**shards(here / "cache"), **{path.name: path.read_bytes() for path in plans}}

    def wrong(self, here: Path, whole: dict[str, Any]) -> list[str]:
        return [line for line in damage(here / "cache") if "in no manifest" not in line]


class Repair(Case):
    """``c4c cache verify --repair`` and extraction: the healthy stays, the damaged is kept."""

    def begin(self, here: Path) -> None:
        here.mkdir()
        shutil.copytree(self.base, here / "cache")
        for path in self._chosen(here):
            path.write_bytes(self._damaged(path.read_bytes()))

    def _chosen(self, here: Path) -> list[Path]:
        return sorted((here / "cache/shards/train/clips").glob("*.h5"))[1::3]

    def _damaged(self, data: bytes) -> bytes:
        """With one byte of the features changed."""
        place = data.rindex(b"c4cshard") // 2
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    def work(self, here: Path) -> None:
        list(damage(here / "cache", True))
        run_extract(self.extraction(here / "cache", ("train", "val", "test")))

    def stands(self, here: Path) -> Stands:
        now = shards(here / "cache")
        whole = shards(self.base)
        found: Stands = {name: data for name, data in now.items() if whole.get(name) == data}
        for name, data in now.items():  # a damaged shard, whichever name it has by now
            plain = name.removesuffix(".damaged")
            if data == self._damaged(whole[plain]):
                found[f"what was {plain}"] = data
        return found

    def result(self, here: Path) -> dict[str, Any]:
        return shards(here / "cache")

    def wrong(self, here: Path, whole: dict[str, Any]) -> list[str]:
        return [
            f"{name} is neither whole nor what it was"
            for name, data in shards(here / "cache").items()
            if data not in (whole.get(name), whole.get(name + ".damaged"))
        ]


class Train(Case):
    """What both trainings share: a checkpoint at every step, gone on with."""

    def checkpoint(self, here: Path, name: str) -> Any:
        """The checkpoint that stands there, or none."""
        path = standing(here / "run" / name)
        return None if path is None else load_checkpoint(path)

    def stands(self, here: Path) -> Stands:
        found: Stands = {}
        for name in ("best", "last"):
            checkpoint = self.checkpoint(here, name)
            if checkpoint is not None:
                found[name] = int(checkpoint.meta["position"]["step"])
        return found

    def wrong(self, here: Path, whole: dict[str, Any]) -> list[str]:
        last = self.checkpoint(here, "last")
        if last is None:
            return []
        steps = [row["step"] for row in read_journal(here / "run/log.jsonl") if "loss" in row]
        found = [] if last.state else ["the last checkpoint has no state to go on from"]
        lost = set(range(1, last.meta["position"]["step"] + 1)) - set(steps)
        return found + [f"the log has lost step {step}" for step in sorted(lost)]

    def result(self, here: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in ("best", "last"):
            checkpoint = load_checkpoint(here / "run" / name)
            found[f"{name} position"] = checkpoint.meta["position"]
            for path in sorted(checkpoint.path.glob("*.safetensors")):
                for key, value in read_tensors(path)[0].items():
                    found[f"{name} {path.name} {key}"] = value.numpy().tobytes()
        found["log"] = [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in read_journal(here / "run/log.jsonl")
        ]
        found["left"] = sorted(path.name for path in (here / "run").glob(".*"))
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """What the trainings have in common."""
        return {"batch": 8, "resume": "auto", "checkpoint_minutes": 1e-6, "device": "cpu"}


class TrainHead(Train):
    """``c4c train-head``."""

    def work(self, here: Path) -> None:
        from c4c.training.cached import train_head
        from c4c.training.config import TrainHeadConfig

        train_head(
            TrainHeadConfig(head="seqLSTM", cache=self.base, out=here / "run", epochs=4,
                            **self.settings)
        )  # fmt: skip


class TrainE2E(Train):
    """``c4c train-e2e``, from frames that are decoded already."""

    def work(self, here: Path) -> None:
        from c4c.training.config import TrainE2EConfig
        from c4c.training.e2e import train_e2e

        train_e2e(
            TrainE2EConfig(head="meanP", dataset="shapes", root=self.root, backbone="tiny",
                           frame_cache=self.shared / "frames", out=here / "run", epochs=2,
                           max_frames=2, workers=1, **self.settings)
        )  # fmt: skip


class Study(Case):
    """``c4c study``: a run that is done stays as it is."""

    def __init__(self, root: Path, base: Path, shared: Path) -> None:
        super().__init__(root, base, shared)
        (shared / "grid.toml").write_text(GRID)

    def work(self, here: Path) -> None:
        from c4c.study.config import StudyConfig
        from c4c.study.run import run_study

        run_study(
            StudyConfig(name=str(self.shared / "grid.toml"), datasets=("shapes",), root=self.root,
                        cache=self.base, out=here / "study", devices=("cpu",), workers=1)
        )  # fmt: skip

    def stands(self, here: Path) -> Stands:
        paths = (here / "study").glob("runs/*/result.json")
        return {path.parent.name: path.read_bytes() for path in paths}

    def result(self, here: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in sorted((here / "study").glob("runs/*/result.json")):
            evaluation = json.loads(path.read_bytes())["evaluation"]
            found[path.parent.name] = {**evaluation, "source": None}
        with (here / "study/runs.csv").open() as stream:
            place = ("seconds", "checkpoint", "notes")
            found["rows"] = [
                {key: value for key, value in row.items() if key not in place}
                for row in csv.DictReader(stream)
            ]
        found["files"] = sorted(path.name for path in (here / "study").glob("[!.]*"))
        return found


class Frames(Case):
    """The frame cache: what was counted as decoded is there, and a finished one is whole."""

    def __init__(self, root: Path, base: Path, shared: Path) -> None:
        super().__init__(root, base, shared)
        self.dataset = load_dataset(DatasetSource("shapes", root), "train")

    def work(self, here: Path) -> None:
        from c4c.extract.backbone.load import load_backbone
        from c4c.extract.video.request import Request
        from c4c.training import frame_part, frames

        frame_part._SAVE_SECONDS = 0.02  # so that there is something to lose at every moment
        backbone = load_backbone("tiny", device="cpu")
        request = Request(4.0, 8, "uniform", "pyav", backbone.image_size)
        frames.open_frames(here / "frames", self.dataset, backbone, request, 1)

    def _part(self, here: Path) -> tuple[bytes, np.ndarray[Any, Any]]:
        """Frames that are written, and how many of each clip are counted."""
        for folder in [*here.glob("frames/train-*"), *here.glob("frames/.train-*.part")]:
            try:
                counted = (folder / "lengths.bin").read_bytes()
                lengths = np.frombuffer(counted[: len(counted) // 8 * 8], np.int64)
                return (folder / "frames.bin").read_bytes(), lengths
            except FileNotFoundError:  # not begun, or renamed between the two looks
                continue
        return b"", np.zeros(0, np.int64)

    def stands(self, here: Path) -> Stands:
        return {"clips decoded": len(self._part(here)[1])}

    def wrong(self, here: Path, whole: dict[str, Any]) -> list[str]:
        data, lengths = self._part(here)
        size = int(lengths.sum()) * 3 * 64 * 64
        frames = next(value for name, value in whole.items() if name.endswith("frames.bin"))
        found = [] if data[:size] == frames[:size] and len(data) >= size else ["frames differ"]
        for path in here.glob("frames/train-*/*"):
            if path.read_bytes() != whole.get(str(path.relative_to(here))):
                found.append(f"{path.name} of a finished frame cache is not whole")
        return found

    def halves(self, here: Path) -> set[str]:
        data, lengths = self._part(here)
        uncounted = len(data) - int(lengths.sum()) * 3 * 64 * 64
        return {f"{len(data)} bytes"} if uncounted else set()

    def result(self, here: Path) -> dict[str, Any]:
        paths = here.glob("frames/*/*")
        return {str(path.relative_to(here)): path.read_bytes() for path in paths}


class Index(Case):
    """``c4c index`` of a cache that has grown: the gallery that stood answers, and is added to."""

    def __init__(self, root: Path, base: Path, shared: Path) -> None:
        super().__init__(root, base, shared)
        run_extract(self.extraction(shared / "cache"))
        self._index(shared)
        run_extract(self.extraction(shared / "cache", ("train", "val", "test")))

    def _index(self, here: Path) -> None:
        with Searcher(here / "cache", device="cpu") as searcher:
            assert len(searcher.gallery)

    def begin(self, here: Path) -> None:
        shutil.copytree(self.shared, here)

    def work(self, here: Path) -> None:
        gallery_build.PIECE_CLIPS = 2  # several pieces, so several commits
        self._index(here)

    def _gallery(self, here: Path) -> Gallery:
        (path,) = (here / "cache/gallery").glob(f"*/{STATE}")
        return Gallery(path.parent, read_record(path, State, SCHEMA))

    def stands(self, here: Path) -> Stands:
        gallery = self._gallery(here)
        pieces: Stands = {
            held.name: (gallery.folder / held.name).read_bytes() for held in gallery.state.pieces
        }
        return {"clips": len(gallery), **pieces}

    def wrong(self, here: Path, whole: dict[str, Any]) -> list[str]:
        gallery = self._gallery(here)
        query = torch.nn.functional.normalize(torch.ones(1, gallery.pieces[0].clips.shape[1]))
        _, pieces, _ = gallery.nearest("clips", query, 100)
        answers = int((pieces >= 0).sum())
        some = [] if answers == len(gallery) else [f"{answers} of {len(gallery)} clips answer"]
        return some + list(gallery.damage())

    def result(self, here: Path) -> dict[str, Any]:
        held = self._gallery(here).state.pieces
        files = {one.name for one in held}
        left = sorted(path.name for path in (here / "cache/gallery").rglob("*.safetensors"))
        return {"pieces": held, **self.stands(here), "left": set(left) - files}


CASES: dict[str, type[Case]] = {
    "extract": Extract,
    "train-head": TrainHead,
    "train-e2e": TrainE2E,
    "study": Study,
    "compact": Compact,
    "repair": Repair,
    "frames": Frames,
    "index": Index,
}


def observed(case: Case, here: Path) -> Stands:
    """What stands while a run goes on: nothing, where a look falls between two of its steps."""
    try:
        return case.stands(here)
    except (C4CError, OSError):
        return {}


def lost(before: Stands, now: Stands) -> list[str]:
    """What was acknowledged and is not there any more, a line each."""
    found = []
    for name, value in before.items():
        there = now.get(name)
        if there is None:
            found.append(f"{name} is gone")
        elif isinstance(value, bytes) and there != value:
            found.append(f"{name} has changed")
        elif isinstance(value, int) and isinstance(there, int) and there < value:
            found.append(f"{name} was at {value} and is at {there}")
    return found
