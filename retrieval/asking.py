"""What is asked: sentences with weights, words to avoid, a second of a video."""

from __future__ import annotations

from dataclasses import dataclass

from c4c.core.errors import C4CError
from c4c.core.limits import require_within
from c4c.core.records import Query
from c4c.core.settings import setting

# What is to be avoided counts half: at its full weight it would lead away from the question too.
AVOID = 0.5
_LEAST, _MOST = 1e-6, 1e6  # weight of a sentence


@dataclass(frozen=True, slots=True)
class Ask:
    """A question of several parts; a plain sentence is one of a single part.

    Its vector is the weighted sum of its parts' unit vectors, less half of those to avoid.

    Attributes:
        sentences: what hits are to show.
        weights: of the sentences; none given is 1 each.
        avoid: sentences that hits are not to show.
        like: a video that they are to be like, or a second of one: ``VIDEO@12.5``.
        id: what the asker calls it.

    Example:
        >>> print(Ask(("a dog runs", "the sea"), weights=(1.0, 0.5), avoid=("people",)))
        a dog runs + 0.5 the sea - people
    """

    sentences: tuple[str, ...] = ()
    weights: tuple[float, ...] = setting(
        "Question", "Of each SENTENCE, in their order. [1]", (), option="weight"
    )
    avoid: tuple[str, ...] = setting(
        "Question", "What hits are not to show; repeatable.", (), option="not"
    )
    like: str | None = setting(
        "Question", "A video, a picture, or a second of a video: VIDEO@12.5.", None
    )
    id: str | int | None = None

    def __post_init__(self) -> None:
        for sentence in (*self.sentences, *self.avoid):
            if not sentence.strip():
                raise C4CError("A query is empty: it needs words.")
            if any("\ud800" <= character <= "\udfff" for character in sentence):
                raise C4CError(f"The sentence '{sentence}' is not UTF-8 text; write it anew.")
        if self.weights and len(self.weights) != len(self.sentences):
            raise C4CError(
                f"There are {len(self.weights)} weights for {len(self.sentences)} sentences; "
                "give one each, or none."
            )
        for weight in self.weights:
            require_within("weight", weight, _LEAST, _MOST)
        if not (self.sentences or self.like):
            raise C4CError("A query needs a sentence, or --like VIDEO.")

    @classmethod
    def of(cls, query: str | Ask) -> Ask:
        """A sentence as a question; questions stay as they are."""
        if isinstance(query, Ask):
            return query
        return cls((query,), id=query.id if isinstance(query, Query) else None)

    @property
    def parts(self) -> list[tuple[str, float]]:
        """Each sentence with its weight, those to avoid with a negative one."""
        weights = self.weights or (1.0,) * len(self.sentences)
        parts = list(zip(self.sentences, weights, strict=True))
        return parts + [(sentence, -AVOID) for sentence in self.avoid]

    @property
    def is_plain(self) -> bool:
        """Whether it is one sentence and nothing else."""
        return len(self.sentences) == 1 and not (self.avoid or self.like)

    @property
    def label(self) -> Query:
        """The question in a line, under its id."""
        return Query(str(self), self.id)

    def __str__(self) -> str:
        if self.is_plain:
            return self.sentences[0]
        weights = self.weights or (1.0,) * len(self.sentences)
        parts = [
            sentence if weight == 1 else f"{weight:g} {sentence}"
            for sentence, weight in zip(self.sentences, weights, strict=True)
        ]
        parts += [self.like] if self.like else []
        return " + ".join(parts) + "".join(f" - {sentence}" for sentence in self.avoid)
