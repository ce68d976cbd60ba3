"""The result of a run is that run's, and whole; else a line says what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from c4c.core.errors import C4CError, Damaged, NewerVersion
from c4c.core.schema import sealed
from c4c.study.plan import Run
from c4c.study.result import read_result

RUN = Run("shapes", {"head": "meanP"}, {"head": "meanP", "lr": 1e-3}, 1)
FIGURES = {
    "r1": 50.0, "r5": 90.0, "r10": 100.0, "r50": 100.0, "median_rank": 1.0, "mean_rank": 2.0,
    "rsum": 240.0, "queries": 2, "gallery": 2, "gallery_expected": 2,
}  # fmt: skip


def content(**changes: Any) -> dict[str, Any]:
    source = {"model": "tiny", "weights": "x", "split": "test", "chosen_on": None}
    evaluation = {
        "metrics": {"t2v": FIGURES, "v2t": FIGURES},
        "twin_accuracy": None,
        "notes": [],
        "source": {**source, "checkpoint": None},
        "queries": {"t2v": [{"clip": "v", "rank": 1, "ties": 1, "caption": "c"}]},
    }
    own = {"dataset": RUN.dataset, "variant": RUN.variant, "settings": RUN.settings}
    rest = {"study": "s", "mode": "cached", "seconds": 1, "version": "1", "revision": ""}
    return {"schema": 1, **own, "seed": 1, **rest, "evaluation": evaluation, **changes}


def put(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_result_is_read_with_and_without_a_checksum(tmp_path: Path) -> None:
    path = put(tmp_path / "result.json", sealed(content()))
    assert read_result(path, RUN)["evaluation"]["metrics"]["t2v"]["r1"] == 50.0
    assert read_result(put(path, content()), RUN)["seed"] == 1  # as they were before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 2}, "of another run"),
        ({"dataset": "lsmdc"}, "of another run"),
        ({"settings": {"head": "meanP", "lr": 2e-3}}, "of another run"),
        ({"seed": "1"}, "seed is '1', expected a whole number"),
        ({"evaluation": None}, "evaluation is null, expected an object"),
        ({"evaluation": {}}, "evaluation has no 'metrics'"),
        ({"seconds": float("nan")}, "holds NaN"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = put(tmp_path / "result.json", content(**changes))
    with pytest.raises(C4CError, match=words) as caught:
        read_result(path, RUN)
    assert "result.json" in str(caught.value)
    assert "remove it and run the study again" in str(caught.value) or "NaN" in words


def test_a_changed_figure_and_a_newer_version_are_told_apart(tmp_path: Path) -> None:
    held = sealed(content())
    held["evaluation"]["metrics"]["t2v"]["r1"] = 60.0
    with pytest.raises(Damaged, match="differs from its checksum"):
        read_result(put(tmp_path / "result.json", {**held}), RUN)
    with pytest.raises(NewerVersion, match="upgrade c4c"):
        read_result(put(tmp_path / "result.json", {**held, "schema": 2}), RUN)
