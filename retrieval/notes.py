"""What must be said beside figures, in one place: evaluation and training say the same."""

from __future__ import annotations

SEVERAL = (
    "several captions a clip: video to text ranks each clip's best caption among those of the "
    "others, and the median of text to video is the lower middle (CLIP4Clip)"
)


def gallery_notes(expected: int, missing: int, failed: int, left_out: int) -> list[str]:
    """What the gallery and the queries lack; nothing when they are whole.

    Args:
        expected: clips that the annotations name.
        missing: those without a video.
        failed: those that could not be decoded.
        left_out: captions whose clip is among these.
    """
    notes = []
    if gone := missing + failed:
        notes.append(
            f"not comparable: {gone} of {expected} clips are not in the gallery "
            f"({missing} without video, {failed} failed)"
        )
    if left_out:
        notes.append(f"{left_out} captions left out: their clips have no features")
    return notes


def chosen_note(split: str) -> str:
    """Figures of the best epoch on the split that chose it."""
    return f"the best epoch was chosen on this very split ({split}): figures are optimistic"
