"""``shapes-moments``: long videos of several events, and questions for stretches of them.

Every video shows two moments and their twins (the same frames in another order), each of two
events, with other events between them and pauses of nothing. Some questions have no answer:
nothing that they describe is shown anywhere. So a search must find the video, the moment in it
and the order of its events, and must say when there is nothing to find.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.files import fsync_folder, read_json, write_json
from c4c.core.progress import Progress
from c4c.extract.datasets.recipes import MomentsRecipe
from c4c.extract.datasets.shapes import write_video
from c4c.extract.datasets.shapes_render import (
    COLOURS,
    FPS,
    OPPOSITE,
    SECONDS,
    SHAPES,
    Event,
    Look,
    draw_look,
    render_background,
    render_clip,
)

QUERIES, RECIPE, VIDEOS = "moments.jsonl", "shapes-moments.json", "videos"
_MOMENTS = 4  # of a video: two and their twins
_PAUSES = (2, 7)  # whole seconds, the longer one excluded


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a video: events one after the other, or a pause of so many seconds."""

    events: tuple[Event, ...] = ()
    pause: int = 0

    @property
    def seconds(self) -> int:
        """How long it is."""
        return self.pause or SECONDS * len(self.events)


@dataclass(frozen=True, slots=True)
class Film:
    """One video before it is drawn, and the questions about it."""

    id: str
    parts: tuple[Part, ...]
    look: Look
    queries: tuple[dict[str, object], ...]


def plan_films(recipe: MomentsRecipe) -> tuple[list[Film], list[dict[str, object]]]:
    """Every video with its questions, and the questions without an answer.

    Raises:
        C4CError: more videos than there are pairs of events for.
    """
    generator = np.random.default_rng([recipe.seed, 17])
    events = [Event(*parts) for parts in itertools.product(COLOURS, SHAPES, OPPOSITE)]
    pairs = [(one, two) for one in events for two in events if one != two]
    order = (pairs[place] for place in generator.permutation(len(pairs)))
    wanted = 4 * recipe.videos  # two moments of a video, two questions without an answer
    fresh = list(itertools.islice(_fresh_pairs(order), wanted))
    if len(fresh) < wanted or not fresh:
        raise C4CError(
            f"shapes-moments: --videos is {recipe.videos}, expected 1 to {len(pairs) // 8}."
        )
    shown, hidden = fresh[: wanted // 2], fresh[wanted // 2 : wanted]
    films = [
        _film(f"film-{number:04d}", shown[2 * number : 2 * number + 2], events, generator)
        for number in range(recipe.videos)
    ]
    unanswered: list[dict[str, object]] = [
        {"id": f"none-{number:04d}", "query": _caption(pair), "video": None}
        for number, (pair, _) in enumerate(hidden)
    ]
    return films, unanswered


Pair = tuple[Event, Event]


def _fresh_pairs(pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Pair]]:
    """Pairs of events with their twins, none of which is met twice."""
    used: set[Pair] = set()
    for number, (one, two) in enumerate(pairs):
        twin = (two, one) if number % 2 == 0 else (one.backwards(), two.backwards())
        if not used & {(one, two), twin} and twin != (one, two):
            used |= {(one, two), twin}
            yield (one, two), twin


def _caption(pair: Pair) -> str:
    return " then ".join(map(str, pair))


def _film(
    name: str,
    pairs: list[tuple[Pair, Pair]],
    events: list[Event],
    generator: np.random.Generator,
) -> Film:
    """Moments in an order that is drawn, pauses before each part, another event now and then."""
    order = [(number, side) for number in range(len(pairs)) for side in range(2)]
    order = [order[place] for place in generator.permutation(len(order))]
    parts: list[Part] = []
    queries: list[dict[str, object]] = []
    for number, side in order:
        if generator.random() < 0.5:
            parts += [_pause(generator), Part((events[int(generator.integers(len(events)))],))]
        parts.append(_pause(generator))
        start = sum(part.seconds for part in parts)
        pair = pairs[number][side]
        parts.append(Part(pair))
        ids = [f"{name}-{number}{letter}" for letter in "ab"]
        queries.append(
            {"id": ids[side], "query": _caption(pair), "video": name, "start": start,
             "end": start + parts[-1].seconds, "twin": ids[1 - side]}
        )  # fmt: skip
    parts.append(_pause(generator))
    return Film(name, tuple(parts), draw_look(generator), tuple(queries))


def _pause(generator: np.random.Generator) -> Part:
    return Part(pause=int(generator.integers(*_PAUSES)))


def render_film(film: Film) -> npt.NDArray[np.uint8]:
    """Every frame of a video, uint8 [n, 64, 64, 3] at ``FPS``."""
    blank = render_background(film.look)
    return np.concatenate(
        [
            render_clip(part.events, film.look)
            if part.events
            else np.repeat(blank[None], part.pause * FPS, axis=0)
            for part in film.parts
        ]
    )


def make_shapes_moments(root: Path, recipe: MomentsRecipe) -> bool:
    """Write the benchmark to ``root``: whole under its name, or not there.

    Returns:
        False when the same recipe already stands there.

    Raises:
        C4CError: something else stands there, or it cannot be written.
    """
    if root.exists():
        if (root / RECIPE).exists() and read_json(root / RECIPE) == asdict(recipe):
            return False
        raise C4CError(
            f"{root} exists and was not made with these settings (see its {RECIPE}); pass another "
            "--root, or remove it."
        )
    films, unanswered = plan_films(recipe)
    folder = None
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root.parent, prefix=".tmp-shapes-"))
        _write(folder, films, unanswered)
        write_json(folder / RECIPE, asdict(recipe))
        os.chmod(folder, 0o755)
        os.rename(folder, root)
        fsync_folder(root.parent)
    except OSError as error:
        raise C4CError(f"Cannot write {root}: {error.strerror}.") from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    return True


def _write(folder: Path, films: list[Film], unanswered: list[dict[str, object]]) -> None:
    (folder / VIDEOS).mkdir()
    with Progress("make shapes-moments", len(films), "videos") as progress:
        for film in films:
            write_video(folder / VIDEOS / f"{film.id}.mp4", render_film(film))
            progress.step()
    rows = [query for film in films for query in film.queries] + unanswered
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / QUERIES).write_text(text, encoding="ascii")
