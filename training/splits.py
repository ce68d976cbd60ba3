"""Which split a run is evaluated on, and so chooses its best epoch by; never one it trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from c4c.errors import C4CError
from c4c.progress import say
from c4c.records import Clip


def evaluated_split(
    wanted: str, there: tuple[str, ...], train: str, clips_of: Callable[[str], Iterable[Clip]]
) -> str | None:
    """The split named, or ``val`` when it is there and shares no clip with training, or none.

    Two divisions of one collection may share clips (MSR-VTT's 9k holds its val), and a manifest
    may list a file twice. A split that was named is taken as it is.

    Args:
        wanted: a split, ``auto`` or ``none``.
        there: splits that there are.
        train: the one that is trained on.
        clips_of: the clips of a split.

    Raises:
        C4CError: a split was named that is not there.
    """
    if wanted == "none":
        return None
    if wanted != "auto":
        if wanted not in there:
            known = ", ".join(there)
            raise C4CError(f"--eval-split {wanted} is not there. There are: {known}, none.")
        return wanted
    if "val" not in there or train == "val":
        say("no val split: the last checkpoint is kept as the best (--eval-split names one)")
        return None
    shared = _shared(clips_of("val"), clips_of(train))
    if shared:
        say(
            f"{shared} clips of 'val' are in '{train}' too: nothing is chosen on it, and "
            "the last checkpoint is kept as the best"
        )
    return None if shared else "val"


def _shared(held: Iterable[Clip], trained: Iterable[Clip]) -> int:
    """How many clips of ``held`` are trained on, by their ids or by their stretch of a file."""
    known = list(trained)
    ids, stretches = {clip.id for clip in known}, {_stretch(clip) for clip in known}
    return sum(clip.id in ids or _stretch(clip) in stretches for clip in held)


def _stretch(clip: Clip) -> tuple[str, float, float | None]:
    return clip.path, clip.start, clip.end
