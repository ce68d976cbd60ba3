"""The one error that users see: what is wrong, where, and what to do about it."""


class C4CError(Exception):
    """An error that a user can cause and mend.

    The message is one line: what is wrong, where (file, line, option), and what to do.
    The command line prints it and exits with status 2; it is never shown as a traceback.
    """


class NewerVersion(C4CError):
    """A file of a later c4c: nothing is wrong with it, and this c4c cannot read it."""


class Interrupted(C4CError):
    """Work was stopped on request (SIGINT) after saving what was done; exit status 130."""


class Requeue(Interrupted):
    """The same by SIGTERM, which schedulers send: exit status 75, "run me again"."""
