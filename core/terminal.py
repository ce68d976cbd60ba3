"""What leaves for a terminal or a page: foreign text is shown, and does nothing.

File names, captions, messages of libraries and arguments may hold anything. Everything that is
printed passes ``visible``; results go to standard output through ``tell``, words for people to
standard error through ``c4c.core.progress.say``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata

from c4c.core.errors import C4CError

READER_LEFT = 141  # as a shell reports a process that SIGPIPE ended
# Joiners of letters and emoji: without them Persian, Hindi and many emoji are not readable.
_JOINERS = "\u200c\u200d"


class ReaderLeft(Exception):
    """Whoever read our output has gone (``| head -1``): there is nothing more to say."""


def visible(text: str) -> str:
    r"""One line of text in which nothing is obeyed instead of shown.

    Escaped are control characters (and so every escape sequence), ends of lines, characters that
    turn the direction of writing, other invisible ones, and halves of characters, which stand for
    bytes of file names that are not UTF-8.

    >>> print(visible("a\x1b[2Jb\u202ec\n"))
    a\x1b[2Jb\u202ec\n
    """
    if text.isprintable():
        return text
    return "".join(one if _shows(one) else _escaped(one) for one in text)


def _shows(character: str) -> bool:
    spaces_and_joiners = unicodedata.category(character) == "Zs" or character in _JOINERS
    return character.isprintable() or spaces_and_joiners


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def tell(*lines: str) -> None:
    """Print lines of results on standard output, at once.

    Raises:
        C4CError: it cannot be written (standard output is closed, or its disk is full).
        ReaderLeft: nobody reads it any more.
    """
    if sys.stdout is None:
        raise C4CError("Cannot write the result: standard output is closed; redirect it to a file.")
    try:
        sys.stdout.write("".join(visible(line) + "\n" for line in lines))
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderLeft from None
    except OSError as error:
        raise C4CError(f"Cannot write the result to standard output: {error.strerror}.") from None


def open_standard_files() -> None:
    """Where a standard file is closed, open ``/dev/null`` in its place.

    Else what is opened next takes its number, and what libraries say goes into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def prepare_streams() -> None:
    """Make printing safe in any locale: what an encoding lacks is escaped, never an error."""
    open_standard_files()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def leave(status: int) -> None:
    """End the process with ``status``, whatever the last flush of its output comes to."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            status = status or (READER_LEFT if isinstance(error, BrokenPipeError) else 2)
            _discard(stream)
    sys.exit(status)


def _discard(stream: object) -> None:
    """What is left in a buffer goes nowhere: else Python flushes it once more, and exits 120."""
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())  # type: ignore[attr-defined]
