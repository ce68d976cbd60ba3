"""Ranges of numbers that users set: what was mistyped is refused in a line, before any work."""

from __future__ import annotations

from c4c.core.errors import C4CError

# Frames a second: from one in days to more than any camera gives.
FPS = (1e-6, 1e6)
# Seconds between key frames from which on --frame-mode key takes others too.
MAX_GAP = 4.0
# Seeds that every generator in use takes.
MOST_SEED = 2**63 - 1
# More processes than any machine has cores for.
MOST_WORKERS = 1024
# Frames of a clip; the decoders' own limit.
MOST_FRAMES = 100_000
# Answers to a question: unless told, and at most.
HITS, MOST_HITS = 10, 1024


def require_within(name: str, value: float | None, least: float, most: float) -> None:
    """Refuse a number outside of a range; NaN is outside of every range.

    Args:
        name: of the setting, as Python has it (``shard_clips``).
        value: its value; ``None`` is one that was not given.
        least: the smallest that is allowed.
        most: the largest.

    Raises:
        C4CError: ``value`` is not in the range, or no number.
    """
    if value is None or (isinstance(value, int | float) and least <= value <= most):
        return
    option = "--" + name.replace("_", "-")
    raise C4CError(
        f"{option} is {value}, expected a number from {_short(least)} to {_short(most)}."
    )


def _short(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
