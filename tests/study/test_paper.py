"""The table as papers print it, what the runs were trained with, and how they came on."""

import re
from typing import Any

import numpy as np
import pytest

from c4c.study.details import curve_rows, curves, drawing, settings_rows
from c4c.study.paper import latex, paper_lines, rows, short_rows, tex
from c4c.study.spec import make_study
from c4c.study.summary import Variant

STUDY = make_study("mine", {"grid": {"head": ["meanP", "seqLSTM"]}})
VARIANTS = [Variant("shapes", {"head": head}, 2, {}) for head in ("meanP", "seqLSTM")]
NAMES = ("r1", "r5", "r10", "median_rank", "mean_rank")


def run(head: str, seed: int, first: float, **more: Any) -> dict[str, Any]:
    """A result whose ten figures count up from ``first``, both directions in turn."""
    figures = {
        way: {name: first + 5 * place + i for i, name in enumerate(NAMES)}
        for place, way in enumerate(("t2v", "v2t"))
    }
    source = {"split": "test"}
    return {
        "dataset": "shapes", "variant": {"head": head}, "seed": seed, "mode": "e2e",
        "settings": {"head": head, "lr": 1e-3}, "seconds": 10.0 + seed,
        "evaluation": {"metrics": figures, "source": source}, **more,
    }  # fmt: skip


RUNS = [run("meanP", 0, 10.0), run("meanP", 1, 12.0), run("seqLSTM", 0, 20.0)]


def test_both_directions_are_means_with_their_deviation_over_seeds() -> None:
    head, mean, lstm = rows(paper_lines(STUDY, VARIANTS, RUNS))
    assert head[2:7] == ["t2v R@1", "t2v R@5", "t2v R@10", "t2v MdR", "t2v MnR"]
    assert head[7:12] == [word.replace("t2v", "v2t") for word in head[2:7]]
    spread = f"{np.std([10, 12], ddof=1):.1f}"
    assert mean[2:12] == [f"{11 + i:.1f} ± {spread}" for i in range(10)]
    assert lstm[2:12] == [f"{20 + i:.1f}" for i in range(10)]
    assert (mean[-1], lstm[-1]) == ("measured here, 2 seeds", "measured here, 1 seed")


def test_published_rows_stand_below_with_their_source() -> None:
    study = make_study("heads", {"grid": {"head": ["seqLSTM"]}})
    variant = Variant("lsmdc", {"head": "seqLSTM"}, 1, {})
    lines = paper_lines(study, [variant], [{**RUNS[2], "dataset": "lsmdc"}])
    assert [line.published for line in lines] == [False, True]
    assert "arXiv 2104.08860" in lines[1].source
    page = short_rows(lines)
    assert page[2][0].startswith("lsmdc: seqLSTM (LSMDC)\nCLIP4Clip (arXiv")


def test_latex_has_as_many_cells_in_every_row_and_rules_between_groups() -> None:
    text = latex(paper_lines(STUDY, VARIANTS, RUNS), "seeds 0, 1\n\\input{evil}")
    assert text.count("\n\\input") == 0  # what is foreign stays in the comment
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1]  # type: ignore[index]
    body = text[text.index("Dataset") : text.index(r"\bottomrule")]
    lines = [line for line in body.split("\n") if line.endswith(r"\\")]
    assert [len(re.split(r"(?<!\\)&", line)) for line in lines] == [len(columns)] * 3
    assert r"11.0 $\pm$ 1.4" in lines[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a_b & 50 %", r"a\_b \& 50 \%"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("#1 $x$ ~ ^", r"\#1 \$x\$ \textasciitilde{} \textasciicircum{}"),
        ("a\u202eb\x1b[31m", None),
    ],
)
def test_foreign_text_is_no_latex(text: str, expected: str | None) -> None:
    found = tex(text)
    if expected is not None:
        assert found == expected
    assert "\x1b" not in found
    assert "\u202e" not in found


def test_settings_are_those_that_were_trained_with() -> None:
    trained = {"epochs": 5, "batch": 64, "lr": 1e-3, "coef_lr": 0.3, "max_frames": 12}
    trained |= {"sampling": "uniform", "train_split": "train-7k"}
    runs = [run("meanP", s, 1.0, training=trained, parameters=1_789_953) for s in (0, 1)]
    head, row = settings_rows(VARIANTS[:1], runs)
    told = dict(zip(head, row, strict=True))
    assert told["epochs"] == "5"
    assert (told["lr"], told["backbone's lr"]) == ("0.001", "0.0003")
    assert (told["trained on"], told["split"]) == ("train-7k", "test")
    assert (told["parameters"], told["seconds"]) == ("1,789,953", "10")
    _, older = settings_rows(VARIANTS[:1], RUNS)  # from before results held them
    assert older[2:5] == ["–", "–", "0.001"]


def test_curves_are_means_over_seeds_of_every_epoch() -> None:
    def told(*values: float | None) -> list[dict[str, Any]]:
        return [{"step": 9 * i, "epoch": i, "t2v_r1": value} for i, value in enumerate(values)]

    runs = [run("meanP", 0, 1.0, curve=told(1.0, 2.0, None)), run("meanP", 1, 1.0, curve=told(3.0))]
    found = curves("shapes", "t2v_r1", VARIANTS, runs)
    assert found == {"meanP": {0: 2.0, 1: 2.0}}  # of a variant without an epoch nothing
    assert curve_rows(found) == [["epoch", "meanP"], ["0", "2.0"], ["1", "2.0"]]
    assert drawing(found).count("<circle") == 2
    assert curves("lsmdc", "t2v_r1", VARIANTS, runs) == {}
