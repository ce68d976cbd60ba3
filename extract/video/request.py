"""How a clip is to be sampled: what decoding is told, by names that the command line shows."""

from __future__ import annotations

from dataclasses import dataclass

from c4c.core.fit import Fit
from c4c.core.limits import MAX_GAP

DECODERS = ("pyav", "decord")
FRAME_MODES = ("exact", "near", "key")


@dataclass(frozen=True, slots=True)
class Request:
    """How to sample a clip.

    Attributes:
        fps: frames a second.
        max_frames: frames at most; ``None`` is all.
        sampling: which ones when there are more (``head``, ``tail``, ``uniform``).
        decoder: ``pyav`` or ``decord``.
        size: give what a backbone looks at, resized and cropped as it takes them (frames that
            would be enlarged are left whole): 150 kB a frame at 224, whatever the video's size.
            A number is the side of the middle square. ``None`` leaves frames whole.
        mode: ``exact`` (the frames on display at the wanted times), ``near`` (frames near them
            that are cheap to decode) or ``key`` (key frames).
        max_gap: seconds between key frames from which on others are taken too; of ``key``.
    """

    fps: float = 1.0
    max_frames: int | None = None
    sampling: str = "uniform"
    decoder: str = "pyav"
    size: Fit | int | None = None
    mode: str = "exact"
    max_gap: float = MAX_GAP
