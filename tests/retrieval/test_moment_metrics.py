"""The benchmark of moments: what is made, and what its figures count."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.extract.datasets.recipes import MomentsRecipe
from c4c.extract.datasets.shapes_moments import plan_films, render_film
from c4c.retrieval.moment_metrics import Target, figures_of, read_targets
from c4c.retrieval.search import Hit


def hit(video: str, start: float, end: float, score: float = 0.5, rank: int = 1) -> Hit:
    best = (start + end) / 2
    return Hit("q", rank, score, None, video, f"/v/{video}.mp4", start, end, best)


def figures(pairs: list[tuple[Target, list[Hit]]]) -> dict[str, Any]:
    return figures_of([target for target, _ in pairs], [hits for _, hits in pairs])


def asked(
    name: str, video: str | None, start: float = 0, end: float = 0, twin: Any = None
) -> Target:
    return Target("q", name, video, start, end, twin)


def test_a_first_hit_counts_from_a_certain_overlap_on() -> None:
    told = figures(
        [
            (asked("1", "a", 10, 20), [hit("a", 10, 20)]),  # all of it
            (asked("2", "a", 10, 20), [hit("a", 10, 16)]),  # 0.6
            (asked("3", "b", 10, 20), [hit("b", 30, 40)]),  # another stretch
            (asked("4", "b", 10, 20), [hit("c", 10, 20)]),  # another video
            (asked("5", "b", 10, 20), []),
        ]
    )
    assert told["r1_iou50"].value == pytest.approx(40)
    assert told["r1_iou70"].value == pytest.approx(20)
    assert told["video_r1"].value == pytest.approx(60)
    assert told["r1_iou50"].count == 5
    assert told["r1_iou50"].low <= 40 <= told["r1_iou50"].high


def test_average_precision_is_over_ranks_and_overlaps() -> None:
    hits = [hit("b", 0, 10, rank=1), hit("a", 10, 17, rank=2), hit("a", 10, 20, rank=3)]
    told = figures([(asked("1", "a", 10, 20), hits)])
    # 0.5 to 0.7 are met at rank 2, 0.75 to 0.95 at rank 3.
    assert told["map"].value == pytest.approx(100 * (5 / 2 + 5 / 3) / 10)


def test_the_best_second_is_measured_to_the_stretch() -> None:
    told = figures(
        [
            (asked("1", "a", 10, 20), [hit("a", 12, 16)]),
            (asked("2", "a", 10, 20), [hit("b", 0, 4), hit("a", 22, 26)]),  # best at 24
        ]
    )
    assert told["best_error"].value == pytest.approx((0 + 4) / 2)
    assert told["best_inside"].value == pytest.approx(50)


def test_twins_are_told_apart_where_one_of_them_is_found() -> None:
    targets = [asked("1", "a", 0, 8, "2"), asked("2", "a", 20, 28, "1"), asked("3", "a", 40, 48)]
    told = figures_of(targets, [[hit("a", 0, 8)], [hit("a", 1, 8)], [hit("a", 40, 48)]])
    assert (told["twins"].value, told["twins"].count) == (50, 2)


def test_questions_without_an_answer_are_told_by_their_scores() -> None:
    known = [(asked(str(n), "a", 0, 8), [hit("a", 0, 8, score)]) for n, score in enumerate((3, 2))]
    unknown = [(asked(f"n{s}", None), [hit("a", 0, 8, score)]) for s, score in enumerate((2, 1, 1))]
    assert figures(known + unknown)["nothing_auc"].value == pytest.approx((3 + 2.5) / 6)
    assert figures(known)["nothing_auc"].count == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"query": "a", "id": "1", "video": "v", "start": 3, "end": 2}', "line 1"),
        ('{"query": "a", "id": "1"}', "line 1"),
        ('{"query": "a", "id": "1", "video": null}', "no question with an answer"),
        ('{"query": "a", "id": "1", "video": "v", "start": 3, "end": 4}\n' * 2, "duplicate id"),
    ],
)
def test_targets_that_cannot_be_are_refused(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "moments.jsonl").write_text(line)
    with pytest.raises(C4CError, match=words):
        read_targets(tmp_path / "moments.jsonl")


def test_films_show_what_their_questions_say() -> None:
    films, unanswered = plan_films(MomentsRecipe(seed=3, videos=6))
    assert plan_films(MomentsRecipe(seed=3, videos=6)) == (films, unanswered)
    assert plan_films(MomentsRecipe(seed=4, videos=6))[0] != films
    shown = {str(query["query"]) for film in films for query in film.queries}
    assert len(shown) == 24
    assert len(unanswered) == 12
    assert not shown & {query["query"] for query in unanswered}
    for film in films:
        seconds = np.cumsum([0, *(part.seconds for part in film.parts)])
        for query in film.queries:
            part = film.parts[seconds.tolist().index(query["start"])]
            assert " then ".join(map(str, part.events)) == query["query"]
            twin = next(one for one in film.queries if one["id"] == query["twin"])
            assert twin["twin"] == query["id"]
        assert len(render_film(film)) == 4 * seconds[-1]
    with pytest.raises(C4CError, match="expected 1 to"):
        plan_films(MomentsRecipe(videos=100_000))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("films") / "moments"
    args = [
        "dataset",
        "make",
        "shapes-moments",
        "--root",
        str(root),
        "--videos",
        "2",
        "--seed",
        "7",
    ]
    assert CliRunner().invoke(group, args, catch_exceptions=False).exit_code == 0
    return root


@pytest.mark.shows("dataset make shapes-moments", "--root", "--seed", "--videos")
def test_the_benchmark_is_made_as_asked_and_not_over_another(films: Path) -> None:
    assert len(list((films / "videos").iterdir())) == 2
    recipe = json.loads((films / "shapes-moments.json").read_text())
    assert (recipe["seed"], recipe["videos"]) == (7, 2)
    targets = read_targets(films / "moments.jsonl")
    assert sum(target.video is None for target in targets) == 4
    again: Callable[..., Any] = CliRunner().invoke
    args = ["dataset", "make", "shapes-moments", "--root", str(films)]
    assert again(group, [*args, "--videos", "2", "--seed", "7"]).exit_code == 0
    assert "was not made with these settings" in str(again(group, [*args, "--seed", "8"]).exception)


@pytest.mark.shows("retrieve", "--moments")
def test_moments_are_found_by_their_sentences(films: Path, tmp_path: Path) -> None:
    from c4c.extract.config import ExtractConfig
    from c4c.extract.pipeline import run_extract

    run_extract(
        ExtractConfig(
            dataset="folder", root=films / "videos", cache=tmp_path / "cache", backbone="tiny",
            workers=1,
        )
    )  # fmt: skip
    args = [
        "retrieve",
        "--cache",
        str(tmp_path / "cache"),
        "--moments",
        str(films / "moments.jsonl"),
    ]
    done = CliRunner().invoke(
        group, [*args, "--json", str(tmp_path / "f.json")], catch_exceptions=False
    )
    assert "R@1, IoU 0.5" in done.stdout
    told = json.loads((tmp_path / "f.json").read_text())["figures"]
    assert told["video_r1"]["value"] >= 75  # of two videos
    assert told["r1_iou50"]["count"] == 8
