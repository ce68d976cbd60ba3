"""Two evaluations query by query: which were won and lost, and whether that is chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from c4c.core.errors import C4CError
from c4c.core.files import read_json
from c4c.core.records import Clip
from c4c.core.schema import Range, parse
from c4c.retrieval.choices import DIRECTIONS
from c4c.retrieval.evaluate import SCHEMA
from c4c.retrieval.metrics import Ranks
from c4c.retrieval.statistics import Interval, interval

_MOST = 1 << 53  # whole numbers up to here are exact as floats
_REMEDY = "make a results file with c4c retrieve --evaluate --json FILE"


@dataclass(frozen=True, slots=True)
class Row:
    """A query as a results file holds it; ``Evaluation.as_dict`` writes it."""

    clip: str
    rank: Annotated[float, Range(1, _MOST)]
    ties: Annotated[int, Range(1, _MOST)]
    caption: str | None = None
    text: str | None = None
    first: str = ""
    twin: str | None = None
    before_twin: Annotated[float, Range(0, 1)] | None = None

    def __post_init__(self) -> None:
        if self.rank < (self.ties + 1) / 2:
            raise C4CError(f"rank {self.rank:g} is better than {self.ties} tied answers can be.")


@dataclass(frozen=True, slots=True)
class _File:
    """What a comparison needs of a results file, besides the number of its schema."""

    head: str
    queries: dict[str, tuple[Row, ...]]
    videos: dict[str, tuple[str, float, float | None]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a results file.

    Attributes:
        text: the caption; for a clip that looks for captions, its id.
        clip: the right clip.
        rank: expected rank.
        ties: answers that share the right one's score, itself included.
        first: the clip that came first, where it is known.
        cluster: what stands or falls together: the clip, or it and its twin.
        before_twin: 1 where the own clip outranks its twin, 0.5 at a tie; NaN without a twin.
    """

    text: str
    clip: str
    rank: float
    ties: int = 1
    first: str = ""
    cluster: str = ""
    before_twin: float = float("nan")


@dataclass(frozen=True, slots=True)
class Results:
    """A results file, as far as a comparison needs it.

    Attributes:
        path: the file.
        head: name of the head.
        queries: by caption or clip id, for one direction.
        videos: clips that are right or came first somewhere, by id.
        notes: what must be said beside its figures.
    """

    path: Path
    head: str
    queries: dict[str, Query]
    videos: dict[str, Clip] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def ranks(self, keys: Sequence[str]) -> Ranks:
        """Ranks of some queries, in that order."""
        ties = np.array([self.queries[key].ties for key in keys], np.int64)
        ranks = np.array([self.queries[key].rank for key in keys])
        return Ranks(np.rint(ranks - (ties + 1) / 2).astype(np.int64), ties)


@dataclass(frozen=True, slots=True)
class Change:
    """A query in both results."""

    before: Query
    after: Query


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from A to B.

    Attributes:
        queries: how many queries both hold.
        only_a: queries that only A holds; ``only_b`` likewise.
        won: queries that B ranks better, largest gain first.
        lost: those that B ranks worse, largest loss first.
        differences: by figure: ``R@1``, ``R@5``, ``R@10`` and, where there are any, ``twins``
            in points; ``mean rank``.
        notes: what must be said beside the figures, of A and of B.
    """

    queries: int
    only_a: int
    only_b: int
    won: tuple[Change, ...]
    lost: tuple[Change, ...]
    differences: dict[str, Interval]
    notes: tuple[str, ...] = ()


def read_results(path: Path, way: str = DIRECTIONS[0]) -> Results:
    """Read what ``c4c retrieve --evaluate --json`` wrote.

    Raises:
        C4CError: the file is not such a one.
    """
    return parse_results(read_json(path), path, way)


def parse_results(found: Any, path: Path, way: str = DIRECTIONS[0]) -> Results:
    """Results from the content of such a file.

    Raises:
        C4CError: it is none.
    """
    held = parse(_File, found, str(path), SCHEMA, _REMEDY)
    queries: dict[str, Query] = {}
    for number, row in enumerate(held.queries.get(way, ())):
        key = row.caption if way == "t2v" else row.clip
        if key is None or key in queries:
            what = "has no 'caption'" if key is None else f"is another query of '{key}'"
            raise C4CError(f"{path}: queries.{way}[{number}] {what}; {_REMEDY}.")
        queries[key] = _query(row)
    if not queries:
        raise C4CError(f"{path} has no queries of '{way}'; {_REMEDY}.")
    try:
        videos = {name: Clip(name, *span) for name, span in held.videos.items()}
    except C4CError as error:
        raise C4CError(f"{path}: videos: {error}") from None
    return Results(path, held.head, queries, videos, held.notes)


def _query(row: Row) -> Query:
    return Query(
        text=row.clip if row.text is None else row.text,
        clip=row.clip,
        rank=row.rank,
        ties=row.ties,
        first=row.first,
        cluster=min(row.clip, row.clip if row.twin is None else row.twin),
        before_twin=float("nan") if row.before_twin is None else row.before_twin,
    )


def compare(a: Results, b: Results, seed: int) -> Comparison:
    """Compare two results on the queries that both hold.

    Raises:
        C4CError: they share no query.
    """
    shared = [key for key in a.queries if key in b.queries]
    if not shared:
        raise C4CError(f"{a.path} and {b.path} share no query; are they of the same split?")
    first, second = a.ranks(shared), b.ranks(shared)
    gain = first.expected() - second.expected()
    rows = [
        Change(a.queries[shared[i]], b.queries[shared[i]]) for i in np.argsort(-gain, kind="stable")
    ]
    clusters = [a.queries[key].cluster for key in shared]
    changes = {f"R@{k}": 100 * (second.within(k) - first.within(k)) for k in (1, 5, 10)}
    changes["mean rank"] = -gain
    twins = [b.queries[key].before_twin - a.queries[key].before_twin for key in shared]
    if not np.isnan(twins).any():
        changes["twins"] = 100 * np.array(twins)
    return Comparison(
        queries=len(shared),
        only_a=len(a.queries) - len(shared),
        only_b=len(b.queries) - len(shared),
        won=tuple(row for row in rows if row.after.rank < row.before.rank),
        lost=tuple(row for row in reversed(rows) if row.after.rank > row.before.rank),
        differences={name: interval(change, clusters, seed) for name, change in changes.items()},
        notes=(*(f"A: {note}" for note in a.notes), *(f"B: {note}" for note in b.notes)),
    )


def as_dict(found: Comparison) -> dict[str, Any]:
    """A comparison as plain data."""
    return {
        "queries": found.queries,
        "only_a": found.only_a,
        "only_b": found.only_b,
        "notes": list(found.notes),
        "differences": {name: asdict(one) for name, one in found.differences.items()},
        "won": [_change(row) for row in found.won],
        "lost": [_change(row) for row in found.lost],
    }


def _change(row: Change) -> dict[str, Any]:
    return {
        "text": row.before.text,
        "clip": row.before.clip,
        "rank_a": row.before.rank,
        "rank_b": row.after.rank,
        "first_a": row.before.first,
        "first_b": row.after.first,
    }
