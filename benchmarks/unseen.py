"""End to end against the best cached head on what the backbone has never seen.

python benchmarks/unseen.py [--seeds 101 --seeds 102 --seeds 103] [--keep FOLDER]

It walks the second street of ``c4c demo``: the dataset shapes-unseen, four heads on cached
features of the shipped tiny backbone, then head and backbone together from the head that val
chose. Compared with end to end is the head that is best on test, whichever val chose. Differences
are paired by query, twins drawn together; the last line is of all seeds.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from figures import json_option, show

from c4c.cli.demo import E2E, unseen_street, walk
from c4c.heads import MEAN
from c4c.retrieval.compare import Results, parse_results
from c4c.retrieval.statistics import Interval, interval

Floats = Any


def differences(before: Results, after: Results, seed: int) -> tuple[Floats, list[str]]:
    """What each query gains in R@1, in points, and what it belongs to."""
    keys = list(before.queries)
    gains = 100 * (after.ranks(keys).within(1) - before.ranks(keys).within(1))
    return gains, [f"{seed} {before.queries[key].cluster}" for key in keys]


def told(found: Interval) -> list[float]:
    """A difference and its 95 % interval, to a tenth of a point."""
    return [round(value, 1) for value in (found.value, found.low, found.high)]


def measure(folder: Path, seed: int) -> tuple[dict[str, Any], Floats, list[str]]:
    """One seed: a line of figures, and the paired differences behind them."""
    begun = time.monotonic()
    outcome = walk(unseen_street(folder, seed))
    first = {name: one.metrics["t2v"].r1 for name, one in outcome.found.items()}
    best = max((name for name in first if name != E2E), key=lambda name: first[name])
    before, after = (
        parse_results(outcome.found[name].as_dict(), Path(name)) for name in (best, E2E)
    )
    gains, clusters = differences(before, after, seed)
    row = {
        "seed": seed,
        "t2v_r1": {name: round(value, 1) for name, value in first.items()},
        "v2t_r1": {name: round(one.metrics["v2t"].r1, 1) for name, one in outcome.found.items()},
        "twins": {name: round(one.twins or 0.0, 1) for name, one in outcome.found.items()},
        "best_cached": best,
        "gain": told(interval(gains, clusters)),
        "seconds": round(time.monotonic() - begun),
    }
    return row, gains, clusters


@click.command()
@json_option
@click.option("--seeds", multiple=True, default=(101, 102, 103), show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Folder to work in and to keep.")
def main(seeds: tuple[int, ...], keep: Path | None) -> None:
    """Print a line of JSON for each seed, and one for all."""
    rows, gains, clusters = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            row, own, names = measure((keep or Path(folder)) / str(seed), seed)
            show(row)
            rows.append(row)
            gains.append(own)
            clusters += names
    found = interval(np.concatenate(gains), clusters)
    mean = round(float(np.mean([row["twins"][MEAN] for row in rows])), 1)
    show({"seeds": list(seeds), "gain": told(found), "p": found.p, "twins_meanP": mean})


if __name__ == "__main__":
    main()
