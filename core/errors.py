"""The one error that users see: what is wrong, where, and what to do about it."""

from collections.abc import Iterable


class C4CError(Exception):
    """An error that a user can cause and fix.

    The message is one line: what is wrong, where (file, line, option), and what to do.
    The command line prints it and exits with status 2; it is never shown as a traceback.
    """


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
