"""What is wanted of a question besides its words."""

from __future__ import annotations

from dataclasses import dataclass

from c4c.core.errors import C4CError
from c4c.core.limits import MOST_HITS, require_within
from c4c.retrieval.filters import Filter

_MISSING = ("show", "hide")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many answers, and which; ``Searcher`` and ``Client`` take its fields as keywords.

    Attributes:
        k: answers at most, 1 to 1024 (a server may give fewer).
        where: which clips may answer; ``None`` is all.
        per_video: answers from one video at most.
        min_confidence: hits below it are left out, 0 to 1.
        missing: ``hide`` leaves hits out whose video file does not exist, ``show`` does not.

    Raises:
        C4CError: a number is out of its range, or ``missing`` is another word.
    """

    k: int = 10
    where: Filter | None = None
    per_video: int | None = None
    min_confidence: float | None = None
    missing: str = "show"

    def __post_init__(self) -> None:
        require_within("top_k", self.k, 1, MOST_HITS)
        require_within("per_video", self.per_video, 1, MOST_HITS)
        require_within("min_confidence", self.min_confidence, 0, 1)
        if self.missing not in _MISSING:
            raise C4CError(f"missing is '{self.missing}'. Known: {', '.join(_MISSING)}.")

    @property
    def hide(self) -> bool:
        """Whether hits are left out whose video file does not exist."""
        return self.missing == "hide"
