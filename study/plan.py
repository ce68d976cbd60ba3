"""From a study to its runs: presets, settings and seeds laid over each other, and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import get_type_hints

from c4c.core.device import pick_device
from c4c.core.errors import C4CError, suggestion
from c4c.core.presets import preset, preset_datasets, preset_list
from c4c.core.schema import parse
from c4c.extract.datasets import DATASETS
from c4c.heads import AVERAGES, MEAN
from c4c.study.config import StudyConfig
from c4c.study.spec import Settings, Study, load_study

# What a study does itself; the rest goes to the training as it is.
_OWN = frozenset({"post_pretrain"})
# What there is to set where nothing is trained; ``train_split`` says which gallery.
_UNTRAINED = frozenset({"average", "backbone", "head", "max_frames", "train_split"})
# What belongs to a run's place and device, never to a study, and what says it instead.
_TAKEN = {
    "out": "pass --out FOLDER",
    "cache": "pass --cache FOLDER",
    "seed": "pass --seeds N",
    "resume": "finished runs are kept, and others go on, by themselves",
    "overwrite": "remove the study's folder to begin anew",
    "device": "pass --device",
    "eval_split": "pass --select-on SPLIT",
}
_PLACES = {name: f"pass --{name}" for name in ("dataset", "root", "videos", "captions")}


@dataclass(frozen=True, slots=True)
class Run:
    """One training of a study.

    Attributes:
        dataset: its name.
        variant: the grid's settings.
        settings: all settings of the training, the variant's among them.
        seed: of the training.
        asked: what else the user asked for that decides the result; only what was asked.
    """

    dataset: str
    variant: Settings
    settings: Settings
    seed: int
    asked: Settings = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the run's folder: readable, and of what decides the result alone."""
        words = [self.dataset, *(f"{key}={value}" for key, value in self.variant.items())]
        readable = re.sub(r"[^\w.=-]", "-", "_".join(words))[:100]
        made_of = [self.dataset, self.settings, *([self.asked] if self.asked else [])]
        return f"{readable}_{digest(made_of)}_seed={self.seed}"


def digest(value: object) -> str:
    """Eight characters that stand for settings; others have others."""
    told = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def plan_study(config: StudyConfig) -> tuple[Study, StudyConfig, list[Run]]:
    """The study that a user asked for, what it is told, and its runs.

    Raises:
        C4CError: no such study or device, or settings that cannot be.
    """
    for device in config.devices:
        pick_device(device)
    study = load_study(config.name)
    if config.mode == study.mode:
        config = replace(config, mode=None)  # as if it had not been said: the same runs
    if config.mode:
        study = replace(study, mode=config.mode)
    study = with_backbones(study, config)
    return study, config, plan_runs(study, config)


def plan_runs(study: Study, config: StudyConfig) -> list[Run]:
    """Every run of a study, seed by seed, so that a part of them is already a whole table.

    Raises:
        C4CError: a setting that the training does not have.
    """
    for key in config.settings:
        if key in study.grid:
            raise C4CError(f"--set {key}: study '{study.name}' varies {key} itself.")
    command = "train-e2e" if study.mode == "e2e" else "train-head"
    if study.pretrain:
        own = {key: advice for key, advice in _TAKEN.items() if key != "eval_split"}
        _check(study, "e2e", study.pretrain, own)
    # Of backbones that are variants, each has its runs, whichever others were asked for.
    asked = _asked(replace(config, backbones=()) if study.mode == "zero-shot" else config)
    runs = []
    for seed in range(config.seeds):
        for dataset in config.datasets:
            for variant in study.variants():
                chosen = study.settings | variant | config.settings
                head = chosen.get("head")
                if not isinstance(head, str):
                    raise C4CError(f"study '{study.name}' names no head: add --set head=NAME.")
                name = config.preset or default_preset(dataset)
                settings = preset(name, dataset, command, head) | chosen
                if study.mode == "zero-shot":
                    settings = {key: settings[key] for key in settings if key in _UNTRAINED}
                studied = _OWN | ({"average", "backbone"} if study.mode == "zero-shot" else set())
                if "average" in studied and settings.get("average", "after") not in AVERAGES:
                    raise C4CError(
                        f"average is '{settings['average']}'. Known: {', '.join(AVERAGES)}."
                    )
                plain = {key: settings[key] for key in settings if key not in studied}
                _check(study, study.mode, plain, _TAKEN | _PLACES)
                first = {"pretrain": study.pretrain} if settings.get("post_pretrain") else {}
                runs.append(Run(dataset, variant, settings, seed, asked | first))
    return runs


def with_backbones(study: Study, config: StudyConfig) -> Study:
    """A study without training, with the backbones that the user named as its variants.

    Raises:
        C4CError: several backbones, or a head, for a study that cannot have them.
    """
    if study.mode != "zero-shot":
        if len(config.backbones) > 1:
            raise C4CError(f"study '{study.name}' takes one --backbone; zero-shot takes several.")
        return study
    if study.settings.get("head", MEAN) != MEAN or config.settings.get("head"):
        raise C4CError(f"study '{study.name}' trains no head: it averages frames ({MEAN}).")
    for key in sorted(set(config.settings) - _UNTRAINED):
        raise C4CError(
            f"--set {key}: study '{study.name}' trains nothing, and has no such setting."
        )
    named = list(config.backbones)
    return replace(study, grid={**study.grid, "backbone": named}) if named else study


def _asked(config: StudyConfig) -> Settings:
    """What beside the settings decides a result, so that another wish finds no old result."""
    names = ("mode", "backbone", "pretrained", "cache")
    found = {name: getattr(config, name) for name in names}
    found["select_on"] = None if config.select_on == "auto" else config.select_on
    return {name: value for name, value in found.items() if value is not None}


def default_preset(dataset: str) -> str:
    """The first preset that knows a dataset.

    Raises:
        C4CError: none does.
    """
    for name, known in preset_datasets().items():
        if dataset in known:
            return name
    if dataset not in DATASETS:
        raise C4CError(f"Unknown dataset '{dataset}'; {suggestion(dataset, DATASETS)}")
    raise C4CError(f"A study starts from a preset, and none is for '{dataset}': {preset_list()}.")


def _check(study: Study, mode: str, settings: Settings, taken: dict[str, str]) -> None:
    """Refuse what the training does not have, and values of another kind, before any work."""
    from c4c.training.config import TrainE2EConfig, TrainHeadConfig

    kind = TrainE2EConfig if mode == "e2e" else TrainHeadConfig
    fields = {name: hint for name, hint in get_type_hints(kind).items() if name not in taken}
    e2e = {one.name: "--mode e2e has it" for one in dataclasses.fields(TrainE2EConfig)}
    for key, value in settings.items():
        if key not in fields:
            advice = taken.get(key) or (e2e.get(key) if mode == "cached" else None)
            more = f"; {advice}" if advice else ""
            raise C4CError(
                f"study '{study.name}': training in mode {mode} has no setting '{key}' for a "
                f"study to change{more}."
            )
        parse(fields[key], value, f"study '{study.name}': {key}")
