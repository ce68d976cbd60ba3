"""The one error that users see: what is wrong, where, and what to do about it."""

from __future__ import annotations


class C4CError(Exception):
    """An error that a user can cause and mend.

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
