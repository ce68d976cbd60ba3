"""What ``c4c study`` is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c4c.core.config import check_part
from c4c.core.errors import C4CError
from c4c.core.limits import MOST_WORKERS
from c4c.core.settings import check, setting

STUDIES = Path("c4c-studies")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """Settings of ``c4c study``.

    Attributes:
        name: a built-in study, or a TOML file.
        datasets: names in the registry of datasets.
        root: folder of the dataset, when there is one dataset; ``None`` asks ``c4c.toml``.
        videos: folder of its videos.
        captions: its captions file, for datasets that take one.
        cache: its feature cache; ``None`` is ``c4c-cache/<dataset>``.
        backbones: open_clip model names, or ``tiny``; empty is the preset's, or ViT-B-32.
            Several, each ``NAME`` or ``NAME:TAG``, are for studies without training.
        pretrained: its weights.
        mode: ``cached`` or ``e2e``; ``None`` is the study's own.
        preset: settings that runs start from; ``None`` is ``paper`` or ``small``, whichever
            knows the dataset.
        seeds: trainings of each variant, with seeds 0, 1, …
        settings: settings over those of preset and study.
        select_on: split that chooses the best epoch; ``auto`` is ``val`` where there is one.
        out: study folder; ``None`` is ``c4c-studies/<name>``.
        devices: where trainings run, one at a time each; empty takes the GPU or the CPU.
        part: (i, n) runs part i of n, counted from 0: every n-th training from training i.
        workers: decoder processes; 0 is one a core.
    """

    name: str
    datasets: tuple[str, ...] = setting(
        "Data", "Its name; repeatable.", option="dataset", metavar="NAME"
    )
    root: Path | None = setting("Data", "Folder of the dataset.", None)
    videos: Path | None = setting("Data", "Folder of its videos.", None)
    captions: Path | None = setting("Data", "Captions file (folder, manifest).", None)
    cache: Path | None = setting("Data", "Cache. [c4c-cache/DATASET]", None)
    out: Path | None = setting("Data", "Its folder. [c4c-studies/NAME]", None)
    preset: str | None = setting(
        "Training", "Settings to start from. [the one for the dataset]", None
    )
    seeds: int = setting("Training", "Trainings of each variant.", 1, within=(1, 10_000))
    settings: dict[str, Any] = field(default_factory=dict)
    select_on: str = setting("Training", "Split that chooses the best epoch. [val]", "auto")
    mode: str | None = setting(
        "Training",
        "e2e trains the backbone too. [the study's own]",
        None,
        choices=("cached", "e2e"),
    )
    backbones: tuple[str, ...] = setting(
        "Model",
        "Name, tiny or auto; zero-shot: repeatable, NAME:TAG. [ViT-B-32]",
        (),
        option="backbone",
    )
    pretrained: str | None = setting(
        "Model", "Tag, file of weights, or none. [openai, or the first]", None
    )
    devices: tuple[str, ...] = setting(
        "Machine", "One training at a time on each; repeatable.", (), option="device"
    )
    part: tuple[int, int] = setting(
        "Machine",
        "i/n: part i of n, counted from 0 (job arrays).",
        (0, 1),
        option="slice",
    )
    workers: int = setting("Machine", "Decoder processes. [cores]", 0, within=(0, MOST_WORKERS))

    def __post_init__(self) -> None:
        own = (self.root, self.videos, self.captions, self.cache)
        if len(self.datasets) > 1 and any(own):
            raise C4CError(
                "--root, --videos, --captions and --cache are for one --dataset; name the places "
                "of several in c4c.toml."
            )
        if self.pretrained and len(self.backbones) > 1:
            raise C4CError("--pretrained is for one --backbone; of several, pass NAME:TAG each.")
        check(self)
        check_part("--slice", self.part)

    @property
    def backbone(self) -> str | None:
        """The backbone that the user named, if it is one."""
        return self.backbones[0] if len(self.backbones) == 1 else None
