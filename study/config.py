"""What ``c4c study`` is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c4c.core.config import check_part
from c4c.core.errors import C4CError
from c4c.core.limits import MOST_WORKERS, require_within

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
    datasets: tuple[str, ...]
    root: Path | None = None
    videos: Path | None = None
    captions: Path | None = None
    cache: Path | None = None
    backbones: tuple[str, ...] = ()
    pretrained: str | None = None
    mode: str | None = None
    preset: str | None = None
    seeds: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    select_on: str = "auto"
    out: Path | None = None
    devices: tuple[str, ...] = ()
    part: tuple[int, int] = (0, 1)
    workers: int = 0

    def __post_init__(self) -> None:
        own = (self.root, self.videos, self.captions, self.cache)
        if len(self.datasets) > 1 and any(own):
            raise C4CError(
                "--root, --videos, --captions and --cache are for one --dataset; name the places "
                "of several in c4c.toml."
            )
        if self.pretrained and len(self.backbones) > 1:
            raise C4CError("--pretrained is for one --backbone; of several, pass NAME:TAG each.")
        require_within("seeds", self.seeds, 1, 10_000)
        require_within("workers", self.workers, 0, MOST_WORKERS)
        check_part("--slice", self.part)

    @property
    def backbone(self) -> str | None:
        """The backbone that the user named, if it is one."""
        return self.backbones[0] if len(self.backbones) == 1 else None
