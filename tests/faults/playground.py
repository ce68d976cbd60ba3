"""Good files of every kind that c4c reads, small and real, and how each is read."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from c4c.cache.inspect import damage
from c4c.cache.open import Cache
from c4c.core.config import DatasetSource, dataset_source, load_config
from c4c.core.errors import C4CError
from c4c.core.files import write_json
from c4c.core.schema import read_record, sealed
from c4c.extract.backbone.load import load_backbone
from c4c.extract.backbone.weights import read_weights
from c4c.extract.config import ExtractConfig
from c4c.extract.datasets import dataset_splits, load_dataset
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes import make_shapes
from c4c.extract.pipeline import run_extract
from c4c.extract.video.request import Request
from c4c.heads.checkpoint import load_checkpoint
from c4c.retrieval.compare import compare, read_results
from c4c.retrieval.gallery import STATE, Gallery, State
from c4c.retrieval.gallery_refresh import SCHEMA as GALLERY_SCHEMA
from c4c.retrieval.queries import read_queries
from c4c.retrieval.searcher import Searcher
from c4c.retrieval.session import RetrieveConfig, run_evaluate
from c4c.study.config import StudyConfig
from c4c.study.plan import Run, plan_runs
from c4c.study.report import markdown
from c4c.study.result import SCHEMA, read_result
from c4c.study.run import tidy
from c4c.study.spec import load_study
from c4c.study.summary import summarise_runs
from c4c.training.cached import train_head
from c4c.training.config import TrainHeadConfig
from c4c.training.frame_store import FrameStore, frame_caches, frame_damage, read_index
from c4c.training.frames import open_frames
from c4c.training.journal import read_journal

STUDY = 'question = "?"\nbaseline = { head = "meanP" }\n[settings]\nepochs = 1\nlr = 1e-3\n'
CONFIG = '[datasets.lsmdc]\nroot = "a"\nvideos = "~/b"\n[extract]\nfps = 2\ndevice = "cpu"\n'
QUERIES = '{"query": "a red circle"}\na sentence\n{"query": "a star"}\n'
TABLE = [{"video": "a", "caption": "one, two", "start": 0.5}, {"video": "b", "caption": "three"}]


class Playground:
    """Makes the files below a folder, once; commands run in it.

    Args:
        here: the folder.
    """

    def __init__(self, here: Path) -> None:
        self.here = here
        self.run_of = Run("shapes", {"head": "meanP"}, {"head": "meanP", "epochs": 1}, 0)
        made = here.exists()
        here.mkdir(parents=True, exist_ok=True)
        os.chdir(here)
        if not made:
            self._make()

    def _make(self) -> None:
        here = self.here
        make_shapes(here / "shapes", Recipe(seed=2, train=6, val=2, test=2))
        run_extract(ExtractConfig(dataset="shapes", root=here / "shapes", cache=here / "cache",
                                  backbone="tiny", workers=1, shard_clips=4))  # fmt: skip
        train_head(_training(here / "run"))
        with Searcher(here / "cache", device="cpu") as searcher:
            assert searcher.gallery.windows
        backbone = load_backbone("tiny")
        clips = load_dataset(DatasetSource("shapes", here / "shapes"), "val")
        open_frames(here / "frames", clips, backbone, Request(max_frames=3, size=64), 1)
        torch.save(backbone.model.state_dict(), here / "weights.pt")
        evaluation = run_evaluate(RetrieveConfig(cache=here / "cache")).as_dict()
        write_json(here / "results.json", evaluation)
        one = self.run_of
        made = {"dataset": one.dataset, "variant": one.variant, "settings": one.settings,
                "seed": 0, "study": "mine", "mode": "cached", "seconds": 1.0, "version": "1",
                "revision": "", "evaluation": evaluation}  # fmt: skip
        write_json(here / "result.json", sealed({"schema": SCHEMA, **made}))
        texts = {"queries.txt": QUERIES, "toml/c4c.toml": CONFIG,
                 "mine.toml": STUDY + '[grid]\nhead = ["meanP", "seqLSTM"]\n'}  # fmt: skip
        for name, text in texts.items():
            (here / name).parent.mkdir(exist_ok=True)
            (here / name).write_text(text)
        self._make_datasets()

    def _make_datasets(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        miniatures = _miniatures()
        for name, build in miniatures.BUILDERS.items():
            build(miniatures.Place(self.here / name))
        place = miniatures.Place(self.here / "tables")
        place.videos("a.mp4", "b.mp4")
        place.put("c.json", TABLE)
        place.put("c.jsonl", "\n".join(map(json.dumps, TABLE)))
        place.put("c.csv", 'video,caption,start\na,"one, two",0.5\nb,three,\n')
        pq.write_table(pa.Table.from_pylist(TABLE), self.here / "tables/c.parquet")

    def kinds(self) -> Iterator[dict[str, Any]]:
        """Settings of ``fuzz.Kind``."""
        here, last = self.here, self.here / "run/last"
        shard = sorted((here / "cache/shards/train/clips").glob("*.h5"))[0]
        manifest = here / "cache/manifests/train.0001.json"
        few, sure = {"times": 15}, {"checked": True}
        kind = _kind
        yield kind("cache.json", here / "cache/cache.json", self.cache, times=30)
        yield kind("manifest", manifest, self.cache, times=50, **sure)
        yield kind("shard", shard, self.cache, times=50, **sure)
        yield kind("head-init", here / "cache/head-init.safetensors", self.cache, **few, **sure)
        yield kind("checkpoint.json", last / "checkpoint.json", self.checkpoint, times=90, **sure)
        yield kind("head", last / "head.safetensors", self.checkpoint, times=30, **sure)
        yield kind("state", last / "state.safetensors", self.checkpoint, times=30, **sure)
        yield kind("resume", last / "checkpoint.json", self.resume, **few)
        yield kind("log", here / "run/log.jsonl", self.log, lines=True)
        (gallery,) = (here / "cache/gallery").glob(f"*/{STATE}")
        piece = next(gallery.parent.glob("piece-*"))
        yield kind("gallery", gallery, self.gallery, times=30, **sure)
        yield kind("gallery piece", piece, self.gallery, times=30, **sure)
        (frames,) = frame_caches(here / "frames")
        yield kind("frames index", frames / "index.json", self.frames, times=60, **sure)
        yield kind("frames", frames / "frames.bin", self.frames, **sure)
        yield kind("weights", here / "weights.pt", self.weights, times=30)
        yield kind("results", here / "results.json", self.results, times=90)
        yield kind("study result", here / "result.json", self.result, times=40, **sure)
        yield kind("study", here / "mine.toml", self.study, times=90)
        yield kind("c4c.toml", here / "toml/c4c.toml", self.config, times=90)
        yield kind("queries", here / "queries.txt", lambda: list(read_queries(
            str(here / "queries.txt"))))  # fmt: skip
        yield from self._annotations()

    def _annotations(self) -> Iterator[dict[str, Any]]:
        for name, files in ANNOTATIONS.items():
            for file in files:
                read = self._loader(name)
                lines = file.endswith("jsonl")
                yield _kind(f"{name} {Path(file).name}", self.here / name / file, read, lines=lines)
        for file in ("c.json", "c.jsonl", "c.csv", "c.parquet"):
            path = self.here / "tables" / file
            read = self._loader("manifest", path)
            yield _kind(f"table {file}", path, read, lines=file.endswith("jsonl"))

    def _loader(self, name: str, captions: Path | None = None) -> Callable[[], Any]:
        root = captions.parent if captions else self.here / name
        source = DatasetSource(name, root, captions=captions)
        return lambda: [load_dataset(source, split) for split in ("all",) * bool(captions)
                        or dataset_splits(name)]  # fmt: skip

    def cache(self) -> Any:
        """Everything in the feature cache; what verification names is an error."""
        cache = Cache.open(self.here / "cache")
        held: list[Any] = [cache.fingerprint, sorted(cache.head_init()), cache.dim]
        for split in cache.splits:
            clips, captions = cache.clips(split), cache.captions(split)
            held += [clips.clips, clips.twins, captions.captions, captions.features.tobytes()]
            held += [part.tobytes() for i in range(len(clips)) for part in clips.read(i)]
        for problem in damage(cache.path):
            raise C4CError(str(problem))
        return held

    def gallery(self) -> Any:
        """What a gallery answers; what verification names is an error."""
        (path,) = (self.here / "cache/gallery").glob(f"*/{STATE}")
        gallery = Gallery(path.parent, read_record(path, State, GALLERY_SCHEMA))
        for problem in gallery.damage():
            raise C4CError(problem)
        query = torch.ones(1, Cache.open(self.here / "cache").dim)
        nearest = [gallery.nearest(kind, query, 5) for kind in ("clips", "windows")]
        return [part.tolist() for parts in nearest for part in parts]

    def checkpoint(self) -> Any:
        """A checkpoint, its state too."""
        found = load_checkpoint(self.here / "run/last")
        tensors = {**found.head.state_dict(), **(found.state or {})}
        return [found.meta, {name: value.numpy().tobytes() for name, value in tensors.items()}]

    def resume(self) -> Any:
        """A copy of the run that goes on from its end, or from wherever the file says."""
        out = self.here / "resumed"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.here / "run", out)
        return train_head(_training(out, resume="auto")).steps

    def log(self) -> Any:
        """The log of a run."""
        return [(row["step"], row.get("epoch", 0)) for row in read_journal(
            self.here / "run/log.jsonl")]  # fmt: skip

    def frames(self) -> Any:
        """All frames of a frame cache; what verification names is an error."""
        (folder,) = frame_caches(self.here / "frames")
        for problem in frame_damage(folder):
            raise problem
        store = FrameStore.open(folder, read_index(folder), 64)
        return [part.tobytes() for part in store.stream(range(len(store.ids)))]

    def weights(self) -> Any:
        """Names and shapes of weights."""
        return sorted((name, value.shape) for name, value in read_weights(
            self.here / "weights.pt")[0].items())  # fmt: skip

    def results(self) -> Any:
        """A results file, compared with itself."""
        for way in ("t2v", "v2t"):
            found = read_results(self.here / "results.json", way)
            compare(found, found, 0)
        return sorted(found.queries)

    def result(self) -> Any:
        """The result of a study's run, as a row, as figures, and in a report."""
        found = read_result(self.here / "result.json", self.run_of)
        study = load_study("heads")
        return [tidy(found), markdown(study, summarise_runs(study, [found]), [found], 1)]

    def study(self) -> Any:
        """The runs of a study."""
        study = load_study(str(self.here / "mine.toml"))
        return [run.key for run in plan_runs(study, StudyConfig(name="mine", datasets=("shapes",)))]

    def config(self) -> Any:
        """Where a dataset lies."""
        getattr(load_config, "cache_clear", lambda: None)()
        load_config(str(self.here / "toml"))
        before = Path.cwd()
        os.chdir(self.here / "toml")
        try:
            return dataset_source("lsmdc")
        finally:
            os.chdir(before)


ANNOTATIONS = {
    "msrvtt": ("msrvtt_data/MSRVTT_data.json", "msrvtt_data/MSRVTT_JSFUSION_test.csv"),
    "msvd": ("raw-captions.pkl", "test_list.txt"),
    "lsmdc": ("LSMDC16_annos_training.csv",),
    "activitynet": ("train_ids.json", "train.json"),
    "didemo": ("val_list.txt", "val_data.json"),
    "howto100m": ("HowTo100M_v1.csv", "caption.json"),
    "shapes": ("shapes.json", "captions.jsonl"),
}


def _kind(name: str, path: Path, read: Callable[[], Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "path": path, "read": read, **more}


def _training(out: Path, **more: Any) -> TrainHeadConfig:
    """A short one; the cache by a name that holds in a copy of the folder too."""
    cache = Path("cache")
    return TrainHeadConfig(
        head="seqTransf", cache=cache, out=out, epochs=1, batch=4, layers=1, **more
    )


def _miniatures() -> Any:
    """The miniatures of the datasets' layouts, from the tests of their loaders."""
    path = Path(__file__).parents[1] / "datasets/conftest.py"
    spec = importlib.util.spec_from_file_location("miniatures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["miniatures"] = module
    spec.loader.exec_module(module)
    return module
