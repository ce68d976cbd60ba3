"""What a study's runs were trained with, and how they came on: a table and curves by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from c4c.retrieval.page import escape
from c4c.study.summary import Variant, results_of_variant

# Of the settings those that a reader asks for first; runs.csv has all of them.
_SETTINGS = {
    "epochs": "epochs",
    "batch": "batch",
    "lr": "lr",
    "coef_lr": "backbone's lr",
    "max_frames": "frames",
    "sampling": "sampling",
    "train_split": "trained on",
}
CURVES = {"t2v_r1": "text to video R@1", "v2t_r1": "video to text R@1"}
_NONE = "–"


def settings_of(result: dict[str, Any]) -> dict[str, Any]:
    """Every setting of a run; of older results only those that were named."""
    return {**result["settings"], **result.get("training", {})}


def settings_rows(
    variants: Sequence[Variant], results: Sequence[dict[str, Any]]
) -> list[list[str]]:
    """The table of what each variant was trained with, by its first run; seconds are a mean."""
    table = [["dataset", "variant", *_SETTINGS.values(), "split", "parameters", "seconds"]]
    for one in variants:
        runs = results_of_variant(one, results)
        settings = settings_of(runs[0])
        own = {name: settings.get(name) for name in _SETTINGS}
        if own["lr"] is not None and own["coef_lr"] is not None:
            own["coef_lr"] = own["lr"] * own["coef_lr"] if runs[0]["mode"] == "e2e" else None
        split = runs[0]["evaluation"]["source"]["split"]
        seconds = float(np.mean([run["seconds"] for run in runs]))
        rest = [split, runs[0].get("parameters"), f"{seconds:.0f}"]
        table.append([one.dataset, one.label, *map(_shown, [*own.values(), *rest])])
    return table


def _shown(value: Any) -> str:
    if value is None:
        return _NONE
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def curves(
    dataset: str, name: str, variants: Sequence[Variant], results: Sequence[dict[str, Any]]
) -> dict[str, dict[int, float]]:
    """A figure on the split that chooses, by variant and epoch: the mean over seeds.

    Args:
        dataset: whose variants.
        name: of the figure, such as ``t2v_r1``.
        variants: what was found.
        results: contents of the runs' result files.

    Returns:
        Label of the variant to epoch to figure; epoch 0 is a start that was trained before.
        Variants of which nothing is known are left out.
    """
    found: dict[str, dict[int, float]] = {}
    for one in variants:
        if one.dataset != dataset:
            continue
        rows: dict[int, list[float]] = {}
        for epoch, value in _points(results_of_variant(one, results), name):
            rows.setdefault(epoch, []).append(value)
        if rows:
            found[one.label] = {epoch: float(np.mean(rows[epoch])) for epoch in sorted(rows)}
    return found


def _points(runs: Sequence[dict[str, Any]], name: str) -> Iterator[tuple[int, float]]:
    for run in runs:
        for row in run.get("curve", ()):
            if isinstance(row.get(name), int | float) and isinstance(row.get("epoch"), int):
                yield row["epoch"], float(row[name])


def curve_rows(found: dict[str, dict[int, float]]) -> list[list[str]]:
    """Curves as a table: a row an epoch, a column a variant."""
    epochs = sorted({epoch for own in found.values() for epoch in own})
    body = [
        [str(epoch), *(f"{own[epoch]:.1f}" if epoch in own else _NONE for own in found.values())]
        for epoch in epochs
    ]
    return [["epoch", *found], *body]


def drawing(found: dict[str, dict[int, float]]) -> str:
    """Curves as SVG: epochs to the right, percent upwards, a colour and a name a variant."""
    width, height, left, top = 720, 260, 40, 10
    last = max(epoch for own in found.values() for epoch in own) or 1
    most = max(value for own in found.values() for value in own.values()) or 1.0
    across, up = (width - left - 190) / last, (height - top - 30) / most
    base = height - 30
    parts = [
        f"<text class=soft x={left - 6} y={base + 4} text-anchor=end>0</text>"
        f"<text class=soft x={left - 6} y={top + 8} text-anchor=end>{most:.0f}</text>"
        f"<text class=soft x={left + last * across:.1f} y={height - 8} text-anchor=end>"
        f"epoch {last}</text>"
        f"<path d='M{left} {top}V{base}H{left + last * across:.1f}' "
        "style='stroke:var(--line);fill:none'/>"
    ]
    for place, (name, own) in enumerate(found.items()):
        colour = f"hsl({place * 360 // len(found)} 65% 50%)"
        spots = [(left + x * across, base - y * up) for x, y in own.items()]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
        dots = "".join(f"<circle cx={x:.1f} cy={y:.1f} r=2.5 fill='{colour}'/>" for x, y in spots)
        y = top + 12 + 18 * place
        parts.append(
            f"<polyline points='{points}' style='stroke:{colour};fill:none;stroke-width:2'/>"
            f"{dots}"
            f"<rect x={width - 180} y={y - 9} width=10 height=10 style='fill:{colour}'/>"
            f"<text x={width - 164} y={y}>{escape(name)}</text>"
        )
    tall = max(height, top + 18 * len(found) + 12)
    body = "".join(parts)
    return f"<div class=scroll><svg viewBox='0 0 {width} {tall}' width={width}>{body}</svg></div>"
