"""Runs of a study: what is missing is extracted, trained and evaluated; what is there is kept."""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.errors import C4CError
from c4c.core.files import write_json
from c4c.core.lock import one_writer
from c4c.core.progress import say
from c4c.core.schema import sealed
from c4c.core.version import __version__
from c4c.heads import MEAN
from c4c.study.config import STUDIES, StudyConfig
from c4c.study.data import (
    extraction,
    make_shapes_once,
    named_backbone,
    needed_splits,
    splits_of,
)
from c4c.study.pace import note_pace
from c4c.study.plan import Run, digest
from c4c.study.result import SCHEMA, of_training, read_result, revision
from c4c.study.spec import Settings, Study

if TYPE_CHECKING:
    from c4c.retrieval.evaluate import Evaluation


@dataclass(frozen=True, slots=True)
class Job:
    """One run and all that it needs to know, in a form that another process can be sent."""

    run: Run
    study: Study
    config: StudyConfig
    device: str | None

    @property
    def folder(self) -> Path:
        """Where the run keeps everything."""
        return study_folder(self.study, self.config) / "runs" / self.run.key

    @property
    def result(self) -> Path:
        """The file that says that the run is done, and what it found."""
        return self.folder / "result.json"


def study_folder(study: Study, config: StudyConfig) -> Path:
    """Where a study keeps its runs and its tables."""
    return config.out or STUDIES / study.name


def run_jobs(study: Study, config: StudyConfig, runs: list[Run]) -> None:
    """Do this part's runs that are not done.

    Raises:
        C4CError: data or settings that cannot be used, or another process is at one of the runs.
        Interrupted: stopped on request; run again to go on.
    """
    jobs = [Job(run, study, config, None) for run in runs]
    part, parts = config.part
    todo = [job for job in jobs[part::parts] if not job.result.exists()]
    if todo:
        _prepare(study, config, runs)
        say(f"study {study.name}: {len(todo)} of {len(jobs)} runs to do")
        _work(todo, config.devices or (None,))


def results_of(study: Study, config: StudyConfig, runs: list[Run]) -> list[dict[str, Any]]:
    """Results of all runs that are done, by whichever part, in the plan's order."""
    jobs = [Job(run, study, config, None) for run in runs]
    return [read_result(job.result, job.run) for job in jobs if job.result.exists()]


def _work(todo: list[Job], devices: tuple[str | None, ...]) -> None:
    """One run at a time on each device; here when there is one, else in a process for each."""
    if len(devices) == 1:
        for place, job in enumerate(todo, 1):
            say(f"run {place}/{len(todo)}: {job.run.key}")
            perform(Job(job.run, job.study, job.config, devices[0]))
        return
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in todo:
        waiting.put(job)
    errors: list[BaseException] = []

    def serve(device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as process:
            while not errors:
                try:
                    job = waiting.get_nowait()
                    say(f"{device}: {job.run.key}")
                    process.submit(perform, Job(job.run, job.study, job.config, device)).result()
                except queue.Empty:
                    return
                except BaseException as error:
                    errors.append(error)

    threads = [threading.Thread(target=serve, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def perform(job: Job) -> None:
    """Train and evaluate one run, and write its result, unless another process just did.

    Raises:
        C4CError: data or settings that cannot be used, or another process is at this run.
        Interrupted: stopped on request, with the training saved.
    """
    with one_writer(job.folder):
        if not job.result.exists():
            _perform(job)


def _perform(job: Job) -> None:
    begun = time.monotonic()
    whole = not (job.folder / "train").exists()  # of a run that goes on, time says little
    ways = {"e2e": _end_to_end, "cached": _cached, "zero-shot": _untrained}
    found, trained = ways[job.study.mode](job)
    run = job.run
    content = {
        "schema": SCHEMA,
        "study": job.study.name,
        "mode": job.study.mode,
        "dataset": run.dataset,
        "variant": run.variant,
        "settings": run.settings,
        "seed": run.seed,
        "seconds": round(time.monotonic() - begun, 1),
        "version": __version__,
        "revision": revision(),
        **trained,
        "evaluation": found.as_dict(),
    }
    write_json(job.result, sealed(content))
    if whole:
        note_pace(job.study, job.config, run, job.folder, time.monotonic() - begun)


def _cached(job: Job) -> tuple[Evaluation, dict[str, Any]]:
    from c4c.retrieval.session import RetrieveConfig, run_evaluate
    from c4c.training.cached import train_head
    from c4c.training.config import TrainHeadConfig

    cache = extraction(job.config, job.run.dataset).cache
    splits = splits_of(job.config, job.run)
    config = TrainHeadConfig(
        cache=cache, eval_split=splits.eval_split, **_training(job), **job.run.settings
    )
    best = train_head(config).checkpoint
    found = run_evaluate(
        RetrieveConfig(cache=cache, checkpoint=best, split=splits.report, device=job.device)
    )
    return found, of_training(config, best)


def _untrained(job: Job) -> tuple[Evaluation, dict[str, Any]]:
    """Mean pooling of the features as they are."""
    from c4c.retrieval.session import RetrieveConfig, run_evaluate

    run = job.run
    found = run_evaluate(
        RetrieveConfig(
            cache=extraction(job.config, run.dataset, backbone=run.settings["backbone"]).cache,
            split=splits_of(job.config, run).report,
            max_frames=run.settings.get("max_frames"),
            device=job.device,
        ),
        run.settings.get("average", "after"),
    )
    return found, {}


def _end_to_end(job: Job) -> tuple[Evaluation, dict[str, Any]]:
    """Train both, then extract the test split with the trained backbone."""
    from dataclasses import replace

    from c4c.extract.pipeline import run_extract
    from c4c.retrieval.session import RetrieveConfig, run_evaluate
    from c4c.training.config import TrainE2EConfig
    from c4c.training.e2e import train_e2e

    config, run = job.config, job.run
    settings = dict(run.settings)
    if settings.pop("post_pretrain", False):
        settings["pretrained"] = str(_pretrained(job.study, config))
    splits = splits_of(config, run)
    base = extraction(config, run.dataset, (splits.report,))
    training = TrainE2EConfig(
        dataset=run.dataset,
        root=base.root,
        videos=base.videos,
        captions=base.captions,
        eval_split=splits.eval_split,
        **_training(job),
        **named_backbone(config, settings),
    )
    best = train_e2e(training).checkpoint
    cache = job.folder / "cache"
    run_extract(
        replace(
            base,
            cache=cache,
            backbone=settings.get("backbone", base.backbone),
            pretrained=str(best),
            device=job.device,
        )
    )
    found = run_evaluate(
        RetrieveConfig(cache=cache, checkpoint=best, split=splits.report, device=job.device)
    )
    return found, of_training(training, best)


def _training(job: Job) -> dict[str, Any]:
    """Where a training goes and how it goes on; the same in both modes."""
    return {
        "out": job.folder / "train",
        "seed": job.run.seed,
        "resume": "auto",
        "device": job.device,
    }


def _prepare(study: Study, config: StudyConfig, runs: list[Run]) -> None:
    """What runs share: data, features, the post-pretrained backbone. Others wait meanwhile."""
    from c4c.extract.pipeline import run_extract

    needed = {one: needed_splits(config, one, runs) for one in config.datasets}
    with one_writer(study_folder(study, config), wait=True):
        for dataset, splits in needed.items():
            make_shapes_once(config, dataset)
            if study.mode == "zero-shot":
                _extract_variants(config, dataset, runs)
            if study.mode == "cached":
                run_extract(extraction(config, dataset, splits))
        if study.pretrain and any(one.get("post_pretrain") for one in study.variants()):
            _pretrained(study, config)


def _extract_variants(config: StudyConfig, dataset: str, runs: list[Run]) -> None:
    """Features of the galleries alone, for each backbone."""
    from c4c.extract.pipeline import run_extract

    own = [run for run in runs if run.dataset == dataset]
    splits = tuple(dict.fromkeys(splits_of(config, run).report for run in own))
    for backbone in dict.fromkeys(run.settings["backbone"] for run in own):
        run_extract(extraction(config, dataset, splits, backbone))


def _pretrained(study: Study, config: StudyConfig) -> Path:
    """The checkpoint of the post-pretraining; trained when it is not there."""
    from c4c.training.config import TrainE2EConfig
    from c4c.training.e2e import train_e2e

    settings, out = pretraining(study, config)
    if (out / "done.json").exists():
        return out / "best"  # whatever path the file names
    result = train_e2e(TrainE2EConfig(out=out, **settings))
    write_json(out / "done.json", {"checkpoint": str(result.checkpoint)})
    return result.checkpoint


def pretraining(study: Study, config: StudyConfig) -> tuple[Settings, Path]:
    """Settings and folder of the post-pretraining.

    Raises:
        C4CError: the study has none.
    """
    if not study.pretrain:
        raise C4CError(f"study '{study.name}' has post_pretrain but no [pretrain] settings.")
    head = study.settings.get("head", MEAN)
    settings = named_backbone(config, {"head": head, "resume": "auto", **study.pretrain})
    # Other settings are another post-pretraining: it never passes for this one.
    return settings, study_folder(study, config) / f"pretrain_{digest(settings)}"
