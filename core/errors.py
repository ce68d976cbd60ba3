"""The one error that users see: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable


class C4CError(Exception):
    """An error that a user can cause and fix.

    The message is one line: what is wrong, where (file, line, option), and what to do.
    The command line prints it and exits with status 2; it is never shown as a traceback.
    """


class NewerVersion(C4CError):
    """A file of a later c4c: nothing is wrong with it, and this c4c cannot read it."""


class Unreadable(C4CError):
    """A file that cannot be read now: nothing is known of its bytes, trying again may help."""

    @classmethod
    def because(cls, path: object, error: Exception) -> Unreadable:
        """The error for a path, with the reason that the system gives."""
        return cls(f"Cannot read {path} now: {getattr(error, 'strerror', None) or error}.")


class Damaged(C4CError):
    """A file that is proven to differ from what was written."""


class Misplaced(C4CError):
    """What stands in a place is whole, or nobody's to judge, and does not belong there."""


class Interrupted(C4CError):
    """Work was stopped on request (SIGINT) after saving what was done; exit status 130."""


class Requeue(Interrupted):
    """The same by SIGTERM, which schedulers send: exit status 75, "run me again"."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a message about a name that does not exist: the closest one, or all of them.

    Example:
        >>> suggestion("top_k", ["top-k", "split"])
        "did you mean 'top-k'?"
        >>> suggestion("colour", ["top-k", "split"])
        'expected one of split, top-k.'
    """
    from difflib import get_close_matches

    names = sorted(known)
    close = get_close_matches(name, names, 1)
    return f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(names)}."
