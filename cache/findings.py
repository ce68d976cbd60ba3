"""What is said of a cache: lines of its verification, and clips that failed or are partial."""

from __future__ import annotations

from dataclasses import dataclass

from c4c.core.errors import C4CError, Misplaced, NewerVersion, Unreadable

# The exit codes of ``c4c cache verify``, the gravest first; of several the lowest holds.
NOTE = 0  # nothing is wrong
DAMAGED = 3  # or missing: repair and extraction make it anew
UNREADABLE = 4  # nothing is known of it now
NEWER = 5
MISPLACED = 6  # whole, and not to be used here


class Finding(str):
    """A line about one file of a cache.

    Attributes:
        code: what state it tells, one of the constants above.
    """

    __slots__ = ("code",)
    code: int

    def __new__(cls, words: str, code: int = DAMAGED) -> Finding:
        """A line, and the state that it tells."""
        self = super().__new__(cls, words)
        self.code = code
        return self

    @classmethod
    def of(cls, error: C4CError) -> Finding:
        """What an error tells; one that says nothing else tells of damage."""
        kinds = {Unreadable: UNREADABLE, NewerVersion: NEWER, Misplaced: MISPLACED}
        code = next((one for kind, one in kinds.items() if isinstance(error, kind)), DAMAGED)
        return cls(str(error), code)


@dataclass(frozen=True, slots=True)
class Failure:
    """A clip of which something is to be said: its id, status, and what."""

    clip_id: str
    status: str
    message: str
