"""The demo: two editions of shapes, four heads on the cache, end to end, one table and one page.

On ``shapes`` the shipped backbone knows what it sees, and the question is which heads see order.
On ``shapes-unseen`` it does not, and the question is what training the backbone gives.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.cli.demo_moments import find_in_films, moments_table
from c4c.cli.demo_page import E2E, demo_page, demo_table
from c4c.core.limits import MOST_SEED
from c4c.core.lock import one_writer
from c4c.core.presets import preset
from c4c.core.progress import duration, say
from c4c.core.settings import check, setting
from c4c.extract.datasets.recipes import Recipe

if TYPE_CHECKING:
    from c4c.cache.open import Cache
    from c4c.extract.datasets.shapes import Edition
    from c4c.retrieval.evaluate import Evaluation

# Enough to learn from; heads and epochs are chosen on val, with a hundred clips mostly by luck.
_SEEN = {"train": 1000, "val": 300, "test": 200}
# What the backbone has to learn shows on fewer clips, and there the choice is clear.
_UNSEEN = {"train": 600, "val": 100, "test": 200}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Settings of ``c4c demo``: where everything goes, and the seed of everything."""

    out: Path = setting("Data", "Folder for everything it makes.", Path("c4c-demo"))
    seed: int = setting(
        "Training", "Of the videos and of every training.", 0, within=(0, MOST_SEED)
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The table for the terminal, the page's path, and all figures as plain data."""

    table: str
    report: Path
    figures: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Street:
    """One edition of shapes, from its videos to its figures.

    Attributes:
        edition: what its videos show.
        recipe: how many there are, and the seed of them and of every training.
        home: folder of everything that is made of it.
    """

    edition: Edition
    recipe: Recipe
    home: Path

    @property
    def dataset(self) -> str:
        """Its name in the registry of datasets."""
        return self.edition.name

    @property
    def root(self) -> Path:
        """Its videos."""
        return self.home / self.dataset

    @property
    def cache(self) -> Path:
        """Its features."""
        return self.home / "cache"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out on one edition: evaluations by head, and the cached head chosen on val."""

    dataset: str
    found: dict[str, Evaluation]
    best: str
    cache: Cache


def run_demo(config: DemoConfig) -> DemoResult:
    """Run the whole street on both editions; what an earlier run finished is kept.

    Raises:
        C4CError: the folder holds another seed's demo, another run writes it, or it cannot be
            written.
    """
    with one_writer(config.out):
        return _run(config)


def _run(config: DemoConfig) -> DemoResult:
    from c4c.core.files import write_atomic
    from c4c.extract.datasets import shapes
    from c4c.retrieval.moment_metrics import as_data

    begun, seed = time.monotonic(), config.seed
    seen = walk(Street(shapes.EDITION, Recipe(seed, **_SEEN), config.out))
    unseen = walk(unseen_street(config.out / "unseen", seed))
    moments = find_in_films(config.out, seen.best, seed)
    report = config.out / "report.html"
    write_atomic(report, demo_page(config, seen, unseen, moments).encode())
    seconds = time.monotonic() - begun
    say(f"done in {duration(seconds)}")
    heads, others = (
        {name: one.as_dict() for name, one in street.found.items()} for street in (seen, unseen)
    )
    figures = {"seed": config.seed, "seconds": seconds, "heads": heads, "unseen": others}
    figures["moments"] = {head: as_data(one) for head, one in moments.figures.items()}
    tables = "\n\n".join(
        [*(demo_table(one.dataset, one.found) for one in (seen, unseen)), moments_table(moments)]
    )
    words = "twins: own clip before its twin, the same frames in another order (chance 50)"
    return DemoResult(f"{tables}\n{words}", report, figures)


def unseen_street(home: Path, seed: int) -> Street:
    """The street of the edition that the backbone has never seen."""
    from c4c.extract.datasets import shapes_unseen

    return Street(shapes_unseen.EDITION, Recipe(seed, **_UNSEEN), home)


def walk(street: Street) -> Outcome:
    """Videos, features, heads, end to end; what an earlier run finished is kept.

    Raises:
        C4CError: the folder holds something else, or it cannot be written.
    """
    from c4c.cache.open import Cache
    from c4c.extract.config import ExtractConfig
    from c4c.extract.datasets.shapes import make_shapes
    from c4c.extract.pipeline import run_extract

    name = street.dataset
    say(f"{name} 1/4 videos, seed {street.recipe.seed}")
    make_shapes(street.root, street.recipe, street.edition)
    say(f"{name} 2/4 extraction: every frame through CLIP once")
    run_extract(ExtractConfig(dataset=name, root=street.root, cache=street.cache, backbone="tiny"))
    say(f"{name} 3/4 heads, trained on the cache")
    found, on_val = _train_heads(street)
    best = _best(on_val)
    say(f"{name} 4/4 end to end: head and backbone together, from {best}")
    found[E2E] = _train_end_to_end(street, best)
    return Outcome(name, found, best, Cache.open(street.cache))


def _train_heads(street: Street) -> tuple[dict[str, Evaluation], dict[str, dict[str, float]]]:
    """Every head: its evaluation on test, and its figures on val, by which one is chosen."""
    from c4c.heads import HEADS
    from c4c.retrieval.session import RetrieveConfig, run_evaluate
    from c4c.training.cached import train_head
    from c4c.training.config import TrainHeadConfig

    found, on_val = {}, {}
    for name in HEADS:
        settings = preset("small", street.dataset, "train-head", name)
        if not HEADS[name].loose:  # every pair of val after every epoch takes longer than training
            settings = {**settings, "eval_split": "none"}
        result = train_head(
            TrainHeadConfig(
                head=name,
                cache=street.cache,
                out=street.home / "runs" / name,
                seed=street.recipe.seed,
                resume="auto",
                **settings,
            )
        )
        on_val[name] = result.metrics
        found[name] = run_evaluate(RetrieveConfig(cache=street.cache, checkpoint=result.checkpoint))
    return found, on_val


def _best(on_val: dict[str, dict[str, float]]) -> str:
    """The loose head with the best twin accuracy on val, then R@1; test is not looked at."""
    from c4c.heads import HEADS

    loose = [name for name in on_val if HEADS[name].loose]
    return max(loose, key=lambda name: (on_val[name]["twin_accuracy"], on_val[name]["t2v_r1"]))


def _train_end_to_end(street: Street, head: str) -> Evaluation:
    """Go on from the best cached head with the backbone in the loop; extract with the result."""
    from c4c.extract.config import ExtractConfig
    from c4c.extract.pipeline import run_extract
    from c4c.retrieval.session import RetrieveConfig, run_evaluate
    from c4c.training.config import TrainE2EConfig
    from c4c.training.e2e import train_e2e

    result = train_e2e(
        TrainE2EConfig(
            head=head,
            dataset=street.dataset,
            root=street.root,
            init_head=street.home / "runs" / head / "best",
            out=street.home / "runs" / "e2e",
            frame_cache=street.home / "frames",
            seed=street.recipe.seed,
            resume="auto",
            **preset("small", street.dataset, "train-e2e", head),
        )
    )
    cache = street.home / "cache-e2e"
    run_extract(
        ExtractConfig(
            dataset=street.dataset,
            root=street.root,
            cache=cache,
            splits=("test",),
            backbone="tiny",
            pretrained=str(result.checkpoint),
        )
    )
    return run_evaluate(RetrieveConfig(cache=cache, checkpoint=result.checkpoint))
