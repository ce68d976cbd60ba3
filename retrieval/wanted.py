"""What is wanted of a question besides its words."""

from __future__ import annotations

from dataclasses import dataclass

from c4c.core.limits import HITS, MOST_HITS, require_within
from c4c.core.settings import check, setting
from c4c.retrieval.filters import Filter


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

    k: int = HITS
    where: Filter | None = None
    per_video: int | None = setting(
        "Answers", "Answers from one video at most.", None, within=(1, MOST_HITS)
    )
    min_confidence: float | None = setting(
        "Answers", "Leave out hits below it, 0 to 1.", None, within=(0, 1)
    )
    missing: str = setting(
        "Answers", "Hits whose video file does not exist.", "show", choices=("show", "hide")
    )

    def __post_init__(self) -> None:
        require_within("top_k", self.k, 1, MOST_HITS)
        check(self)

    @property
    def hide(self) -> bool:
        """Whether hits are left out whose video file does not exist."""
        return self.missing == "hide"
