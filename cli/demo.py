"""The demo: shapes, extraction, four heads on the cache, end to end, one table and one page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from c4c.core.lock import one_writer
from c4c.core.presets import preset
from c4c.core.progress import duration, say

if TYPE_CHECKING:
    from c4c.cache.open import Cache
    from c4c.retrieval.evaluate import Evaluation
    from c4c.retrieval.report import Example, Strip

E2E = "end to end"
_EXAMPLES = 6
# Heads and epochs are chosen on val; with a hundred clips the choice is mostly luck.
_VAL = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """Settings of ``c4c demo``: where everything goes, and the seed of everything."""

    out: Path
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The table for the terminal, the page's path, and all figures as plain data."""

    table: str
    report: Path
    figures: dict[str, Any]


def run_demo(config: DemoConfig) -> DemoResult:
    """Run the whole street; what an earlier run finished is kept.

    Raises:
        C4CError: the folder holds another seed's demo, another run writes it, or it cannot be
            written.
    """
    with one_writer(config.out):
        return _run(config)


def _run(config: DemoConfig) -> DemoResult:
    from c4c.cache.open import Cache
    from c4c.core.files import write_atomic
    from c4c.extract.config import ExtractConfig
    from c4c.extract.datasets.shapes import Recipe, make_shapes
    from c4c.extract.pipeline import run_extract

    begun = time.monotonic()
    root = config.out / "shapes"
    say(f"1/5 videos: coloured shapes, seed {config.seed}")
    make_shapes(root, Recipe(seed=config.seed, val=_VAL))
    say("2/5 extraction: every frame through CLIP once")
    cache = config.out / "cache"
    run_extract(ExtractConfig(dataset="shapes", root=root, cache=cache, backbone="tiny"))
    say("3/5 heads, trained on the cache")
    found, on_val = _train_heads(config, cache)
    best = _best(on_val)
    say("4/5 end to end: head and backbone together")
    found[E2E] = _train_end_to_end(config, root, best)
    say("5/5 report")
    page = _page(config, found, Cache.open(cache), best)
    report = config.out / "report.html"
    write_atomic(report, page.encode())
    figures = {name: one.as_dict() for name, one in found.items()}
    say(f"done in {duration(time.monotonic() - begun)}")
    summary = {"seed": config.seed, "seconds": time.monotonic() - begun, "heads": figures}
    return DemoResult(_table(found), report, summary)


def _train_heads(
    config: DemoConfig, cache: Path
) -> tuple[dict[str, Evaluation], dict[str, dict[str, float]]]:
    """Every head: its evaluation on test, and its figures on val, by which one is chosen."""
    from c4c.heads import HEADS
    from c4c.retrieval.session import RetrieveConfig, run_evaluate
    from c4c.training.cached import train_head
    from c4c.training.config import TrainHeadConfig

    found, on_val = {}, {}
    for name in HEADS:
        out = config.out / "runs" / name
        result = train_head(
            TrainHeadConfig(
                head=name,
                cache=cache,
                out=out,
                seed=config.seed,
                resume="auto",
                **preset("small", "shapes", "train-head", name),
            )
        )
        on_val[name] = result.metrics
        found[name] = run_evaluate(RetrieveConfig(cache=cache, checkpoint=result.checkpoint))
    return found, on_val


def _best(on_val: dict[str, dict[str, float]]) -> str:
    """The loose head with the best twin accuracy on val, then R@1; test is not looked at."""
    from c4c.heads import HEADS

    loose = [name for name in on_val if HEADS[name].loose]
    return max(loose, key=lambda name: (on_val[name]["twin_accuracy"], on_val[name]["t2v_r1"]))


def _train_end_to_end(config: DemoConfig, root: Path, head: str) -> Evaluation:
    """Go on from the best cached head with the backbone in the loop; extract with the result."""
    from c4c.extract.config import ExtractConfig
    from c4c.extract.pipeline import run_extract
    from c4c.retrieval.session import RetrieveConfig, run_evaluate
    from c4c.training.config import TrainE2EConfig
    from c4c.training.e2e import train_e2e

    result = train_e2e(
        TrainE2EConfig(
            head=head,
            dataset="shapes",
            root=root,
            init_head=config.out / "runs" / head / "best",
            out=config.out / "runs" / "e2e",
            frame_cache=config.out / "frames",
            seed=config.seed,
            resume="auto",
            **preset("small", "shapes", "train-e2e", head),
        )
    )
    cache = config.out / "cache-e2e"
    weights = str(result.checkpoint)
    run_extract(
        ExtractConfig(
            dataset="shapes",
            root=root,
            cache=cache,
            splits=("test",),
            backbone="tiny",
            pretrained=weights,
        )
    )
    return run_evaluate(RetrieveConfig(cache=cache, checkpoint=result.checkpoint))


def _table(found: dict[str, Evaluation]) -> str:
    from c4c.retrieval.table import render

    rows: list[Sequence[str]] = [
        ("shapes test", "R@1", "R@5", "R@10", "median", "mean", "v2t R@1", "v2t R@10", "twins")
    ]
    for name, one in found.items():
        there, back = one.metrics["t2v"], one.metrics["v2t"]
        values = [there.r1, there.r5, there.r10, there.median_rank, there.mean_rank]
        values += [back.r1, back.r10, one.twins or 0.0]
        rows.append((name, *(f"{value:.1f}" for value in values)))
    table = render(rows)
    return f"{table}\ntwins: own clip before its twin, the same frames in another order (chance 50)"


def _page(config: DemoConfig, found: dict[str, Evaluation], cache: Cache, best: str) -> str:
    from c4c.heads import MEAN
    from c4c.retrieval.report import Row, render_report

    rows = [Row(name, one.metrics, one.twins) for name, one in found.items()]
    mean, order = found[MEAN].twins or 0.0, found[best].twins or 0.0
    lead = (
        f"Twins are clips with the same frames in another order. Mean pooling tells them apart in "
        f"{mean:.0f} % of the cases, as a coin would; {best}, which sees order, in {order:.0f} %."
    )
    clips = len(cache.clips("test"))
    foot = (
        f"c4c demo --seed {config.seed}: synthetic videos, the shipped tiny backbone, heads "
        f"trained on cached features; end to end goes on from {best}. Test split, {clips} clips, "
        "captions that no training saw."
    )
    return render_report("Which heads see order?", lead, rows, _examples(found, cache, best), foot)


def _examples(found: dict[str, Evaluation], cache: Cache, best: str) -> list[Example]:
    """Queries spread over the split, with the two first clips of mean pooling and of the best."""
    import numpy as np

    from c4c.heads import MEAN
    from c4c.retrieval.report import Example

    clips, captions = cache.clips("test"), cache.captions("test")
    examples = []
    for place in np.linspace(0, len(captions) - 1, _EXAMPLES).astype(int):
        strips: list[Strip] = []
        for name in (MEAN, best):
            order = found[name].best[place][:2]
            strips += [
                _strip(name, rank, clips.clips[one], captions.clip_ids[place])
                for rank, one in enumerate(order, 1)
            ]
        examples.append(Example(captions.captions[place].text, tuple(strips)))
    return examples


def _strip(name: str, rank: int, clip: Any, right: str) -> Strip:
    from c4c.extract.video.decode import decode_clip
    from c4c.retrieval.report import Strip

    frames = decode_clip(clip).frames.pixels
    return Strip(f"{name} #{rank}", clip.id == right, frames)
