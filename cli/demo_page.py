"""What the demo shows in the end: a table for the terminal, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from c4c.cli.demo import DemoConfig, Outcome
    from c4c.cli.demo_moments import Found
    from c4c.retrieval.evaluate import Evaluation
    from c4c.retrieval.report import Example, Strip

E2E = "end to end"
_EXAMPLES = 4  # of each edition


def demo_table(dataset: str, found: dict[str, Evaluation]) -> str:
    """Figures of an edition's heads, a line each."""
    from c4c.retrieval.table import render

    names = ("R@1", "R@5", "R@10", "median", "mean", "v2t R@1", "v2t R@10", "twins")
    rows: list[Sequence[str]] = [(f"{dataset} test", *names)]
    for name, one in found.items():
        there, back = one.metrics["t2v"], one.metrics["v2t"]
        values = [there.r1, there.r5, there.r10, there.median_rank, there.mean_rank]
        values += [back.r1, back.r10, one.twins or 0.0]
        rows.append((name, *(f"{value:.1f}" for value in values)))
    return render(rows)


def demo_page(config: DemoConfig, seen: Outcome, unseen: Outcome, moments: Found) -> str:
    """The page of both editions: figures, queries with the clips that came first, and moments."""
    from c4c.cli.demo_moments import moments_part
    from c4c.heads import MEAN
    from c4c.retrieval.report import Row, render_report

    rows = [
        Row(f"{street.dataset}: {name}", one.metrics, one.twins)
        for street in (seen, unseen)
        for name, one in street.found.items()
    ]
    counts = " and ".join(str(len(one.cache.clips("test"))) for one in (seen, unseen))
    foot = (
        f"c4c demo --seed {config.seed}: synthetic videos, the shipped tiny backbone, heads "
        f"trained on cached features; end to end goes on from {seen.best} and, on "
        f"{unseen.dataset}, from {unseen.best}. Test splits of {counts} clips, captions that no "
        "training saw."
    )
    examples = [*_examples(seen, (MEAN, seen.best)), *_examples(unseen, (unseen.best, E2E))]
    title = "Which heads see order, and what does training the backbone give?"
    more = moments_part(moments, seen.best)
    return render_report(title, _lead(seen, unseen), rows, examples, foot, more)


def _lead(seen: Outcome, unseen: Outcome) -> str:
    from c4c.heads import MEAN

    mean, order = seen.found[MEAN].twins or 0.0, seen.found[seen.best].twins or 0.0
    frozen, tuned = (unseen.found[name].metrics["t2v"].r1 for name in (unseen.best, E2E))
    return (
        f"Twins are clips with the same frames in another order. Mean pooling tells them apart in "
        f"{mean:.0f} % of the cases, as a coin would; {seen.best}, which sees order, in "
        f"{order:.0f} %. {unseen.dataset} shows shapes, colours, textures and backgrounds that the "
        f"backbone has never seen: {unseen.best} on its frozen features has the right clip first "
        f"for {frozen:.0f} % of the captions, after training end to end {tuned:.0f} %."
    )


def _examples(street: Outcome, names: tuple[str, str]) -> list[Example]:
    """Queries spread over the split, with the two first clips by each of two heads."""
    import numpy as np

    from c4c.retrieval.report import Example

    clips, captions = street.cache.clips("test"), street.cache.captions("test")
    examples = []
    for place in np.linspace(0, len(captions) - 1, _EXAMPLES).astype(int):
        strips: list[Strip] = []
        for name in names:
            order = street.found[name].best[place][:2]
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
