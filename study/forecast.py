"""What a study would take (``c4c study --dry-run``): runs, features, disk and time.

Videos are opened to learn how long they are; nothing is written. Times are those that this
machine was measured at: for features by an earlier extraction or by the first clip, for runs by
the last run of the same kind or by a step on made-up inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.cache.open import Cache
from c4c.core.inside import is_there
from c4c.core.progress import duration
from c4c.extract.config import ExtractConfig
from c4c.retrieval.table import render
from c4c.study.config import StudyConfig
from c4c.study.data import (
    extraction,
    named_backbone,
    needed_splits,
    source_of,
    splits_of,
    to_be_made,
)
from c4c.study.execute import Job, pretraining, study_folder
from c4c.study.pace import Takes, expected, tried
from c4c.study.plan import Run, digest, plan_study
from c4c.study.spec import Study

if TYPE_CHECKING:
    from c4c.training.config import TrainConfig, TrainE2EConfig


@dataclass(frozen=True, slots=True)
class Need:
    """Features, or frames to train on, that runs of a study need.

    Attributes:
        dataset: of which dataset; empty where it is none's.
        what: what it is.
        folder: where they lie.
        clips: how many clips the splits have; ``None`` when it is made first and nothing is known.
        missing: how many of them are still to be done.
        frames: of these, at most.
        size: bytes that they take at most.
        seconds: that they take; ``None`` when that is not known.
        dim: D of features; 0 when that is not known.
    """

    dataset: str
    what: str
    folder: Path
    clips: int | None
    missing: int = 0
    frames: int = 0
    size: int = 0
    seconds: float | None = None
    dim: int = 0

    def cells(self) -> list[str]:
        """A row of the table."""
        if self.clips is None:
            name = f"{self.dataset} {self.what}: made first".strip()
            return [name, *["–"] * 4, "not known", str(self.folder)]
        spent = "not known" if self.seconds is None else duration(self.seconds)
        counts = [str(self.clips), str(self.missing), str(self.frames)]
        return [
            f"{self.dataset} {self.what}",
            *counts,
            _megabytes(self.size),
            spent,
            str(self.folder),
        ]


@dataclass(frozen=True, slots=True)
class Outlook:
    """One run: whether it is done, and what it takes where it is not.

    Attributes:
        run: the run.
        state: ``done``, ``begun`` or ``to do``.
        takes: time and disk; ``None`` where nothing is known.
    """

    run: Run
    state: str
    takes: Takes | None

    def cells(self) -> list[str]:
        """A row of the table."""
        spent = duration(self.takes.seconds) if self.takes else "not known"
        return [self.run.key, self.state, "–" if self.state == "done" else spent]


@dataclass(frozen=True, slots=True)
class StudyForecast:
    """What a study would take.

    Attributes:
        study: the study.
        folder: where it keeps everything.
        runs: all of its runs, also those of other parts.
        todo: those that this part would do.
        needs: what they need.
        devices: how many runs go on at once.
    """

    study: Study
    folder: Path
    runs: tuple[Outlook, ...]
    todo: tuple[Outlook, ...]
    needs: tuple[Need, ...]
    devices: int

    def lines(self) -> list[str]:
        """The forecast for people."""
        done = sum(one.state == "done" for one in self.runs)
        head = f"study {self.study.name}: {done} of {len(self.runs)} runs are done in {self.folder}"
        table = render([["run", "state", "about"], *(one.cells() for one in self.runs)])
        told = [head, *table.split("\n")]
        if self.needs:
            names = ["needed", "clips", "missing", "frames", "disk", "about", "in"]
            told += ["", *render([names, *(one.cells() for one in self.needs)]).split("\n")]
        return [*told, "", *self._sums()]

    def _sums(self) -> Iterator[str]:
        features = [one.seconds for one in self.needs if one.seconds is not None]
        known = [one.takes for one in self.todo if one.takes is not None]
        training = sum(one.seconds for one in known) / self.devices
        size = sum(one.size for one in self.needs) + sum(one.size for one in known)
        yield (
            f"time: about {duration(sum(features) + training)}, of it {duration(training)} for "
            f"{len(known)} of {len(self.todo)} runs to do, on {self.devices} at once"
        )
        yield f"disk: about {_megabytes(size)}"
        if steps := sum(one.tried for one in known):
            yield (
                f"of {steps} runs only a step was timed, on made-up inputs: no run of their kind "
                "was done on this machine yet, and evaluation is not counted"
            )
        runs, data = len(self.todo) - len(known), len(self.needs) - len(features)
        if runs or data:
            yield f"not counted, as nothing is known of them: {runs} runs, {data} of what is needed"


def forecast_study(config: StudyConfig) -> StudyForecast:
    """What ``run_study`` would do.

    Raises:
        C4CError: no such study, settings that cannot be, or data that cannot be used.
    """
    study, config, runs = plan_study(config)
    outlooks = [_outlook(study, config, run) for run in runs]
    part, parts = config.part
    todo = [one for one in outlooks[part::parts] if one.state != "done"]
    needs = list(_needs(study, config, [one.run for one in todo]))
    known = _tried(study, config, todo, needs)
    outlooks, todo = ([known.get(one.run.key, one) for one in own] for own in (outlooks, todo))
    return StudyForecast(
        study,
        study_folder(study, config),
        tuple(outlooks),
        tuple(todo),
        tuple(needs),
        min(len(todo), len(config.devices)) or 1,
    )


def _outlook(study: Study, config: StudyConfig, run: Run) -> Outlook:
    job = Job(run, study, config, None)
    if job.result.exists():
        return Outlook(run, "done", None)
    state = "begun" if (job.folder / "train").exists() else "to do"
    takes = None if to_be_made(config, run.dataset) else expected(study, config, run)
    return Outlook(run, state, takes)


def _tried(
    study: Study, config: StudyConfig, todo: Sequence[Outlook], needs: Sequence[Need]
) -> dict[str, Outlook]:
    """Runs of whose kind none was timed, by a step of each variant."""
    from c4c.training.config import TrainHeadConfig

    dims = {need.dataset: need.dim for need in needs if need.clips is not None}
    kinds: dict[str, Takes] = {}
    found = {}
    for one in todo:
        run, kind = one.run, digest([one.run.dataset, one.run.settings])
        if one.takes is not None or study.mode == "zero-shot" or run.dataset not in dims:
            continue
        if kind not in kinds:
            if study.mode == "e2e":
                training: TrainConfig = _training(config, run)
            else:
                training = TrainHeadConfig(**run.settings)
            kinds[kind] = tried(config, run, training, dims[run.dataset])
        found[run.key] = replace(one, takes=kinds[kind])
    return found


def _training(config: StudyConfig, run: Run) -> TrainE2EConfig:
    """Settings of a training end to end, as far as they decide what it takes."""
    from c4c.training.config import TrainE2EConfig

    kept = {key: value for key, value in run.settings.items() if key != "post_pretrain"}
    device = config.devices[0] if config.devices else None
    named = named_backbone(config, kept)
    return TrainE2EConfig(dataset=run.dataset, device=device, **named)


def _needs(study: Study, config: StudyConfig, runs: Sequence[Run]) -> Iterator[Need]:
    if any(run.settings.get("post_pretrain") for run in runs):
        _, folder = pretraining(study, config)
        if not (folder / "done.json").exists():
            yield Need("", "post-pretraining", folder, None)
    for dataset in dict.fromkeys(run.dataset for run in runs):
        own = [run for run in runs if run.dataset == dataset]
        if to_be_made(config, dataset):
            yield Need(dataset, "videos", source_of(config, dataset).root, None)
        elif study.mode == "e2e":
            yield from _frames(config, dataset, own)
        elif study.mode == "zero-shot":
            splits = tuple(dict.fromkeys(splits_of(config, run).report for run in own))
            for backbone in dict.fromkeys(run.settings["backbone"] for run in own):
                yield _features(dataset, extraction(config, dataset, splits, backbone))
        else:
            splits = needed_splits(config, dataset, own)
            yield _features(dataset, extraction(config, dataset, splits))


def _features(dataset: str, config: ExtractConfig) -> Need:
    from c4c.extract.forecast import forecast
    from c4c.extract.pipeline import cache_folder, datasets_of

    clips = sum(len(one.clips) for one in datasets_of(config))
    found = forecast(config)
    seconds = found.seconds / found.rate.speed if found.rate else None
    folder = cache_folder(config)
    there = found.rate is None and is_there(folder / "cache.json", folder)
    return Need(
        dataset,
        "features",
        folder,
        clips,
        found.clips,
        found.frames,
        found.size,
        seconds if found.clips else 0.0,
        Cache.open(folder).dim if there else found.rate.width if found.rate else 0,
    )


def _frames(config: StudyConfig, dataset: str, runs: Sequence[Run]) -> Iterator[Need]:
    """Frames that end-to-end trainings read, once for each way of taking them."""
    seen: set[tuple[Any, ...]] = set()
    for run in runs:
        chosen = splits_of(config, run)
        splits = tuple(one for one in (chosen.train, chosen.select) if one)
        training = _training(config, run)
        way = (splits, training.backbone, training.fps, training.max_frames, training.sampling)
        if way not in seen:
            seen.add(way)
            yield _frames_of(training, extraction(config, dataset), dict.fromkeys(splits))


def _frames_of(training: TrainE2EConfig, base: ExtractConfig, splits: Iterable[str]) -> Need:
    """Frames of some splits: those that a frame cache has are there."""
    from c4c.extract.opening import torch_backbone
    from c4c.extract.pipeline import datasets_of
    from c4c.training.split_frames import cache_folder, has_frames

    folder = cache_folder(training)
    names = ("backbone", "pretrained", "fps", "max_frames", "sampling", "decoder")
    own = {name: getattr(training, name) for name in names}
    # Of the folder of frames nothing is a feature, so all clips count as not extracted.
    wanted = replace(base, cache=folder, splits=tuple(splits), **own)
    backbone = torch_backbone(wanted)
    datasets = datasets_of(wanted)
    missing = tuple(one.split for one in datasets if not has_frames(training, one, backbone))
    clips = sum(len(one.clips) for one in datasets)
    if not missing:
        return Need(training.dataset, "frames", folder, clips, seconds=0.0)
    need = _features(training.dataset, replace(wanted, splits=missing))
    height, width = backbone.preprocessing.fit.shape
    return replace(need, what="frames", clips=clips, size=need.frames * 3 * height * width)


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"
