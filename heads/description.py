"""What a checkpoint's ``checkpoint.json`` holds: the record that it is read as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from c4c.core.errors import C4CError
from c4c.core.schema import Closed, Range, Rest

_Width = Annotated[int, Range(1, 1 << 16)]


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a head. None larger is meant; a file that asks for one is damaged, or worse.

    Attributes:
        dim: D.
        positions: most frames of a clip.
        layers: of the transformer.
        vision_width: what its own projection takes of a frame; ``None`` without projections.
        text_width: what the other one takes of a text.
    """

    dim: _Width
    positions: Annotated[int, Range(1, 1 << 24)]
    layers: Annotated[int, Range(1, 1 << 10)]
    vision_width: _Width | None = None
    text_width: _Width | None = None

    def __post_init__(self) -> None:
        if (self.vision_width is None) != (self.text_width is None):
            raise C4CError("it has one of vision_width and text_width; expected both or none.")


@dataclass(frozen=True, slots=True)
class _Settings:
    """Settings of a training, as far as others go by them."""

    max_frames: Annotated[int, Range(1)] | None = None
    sampling: Literal["uniform", "head", "tail"] = "uniform"
    eval_order: Literal["ordinary", "reverse", "random"] = "ordinary"
    rest: Annotated[dict[str, Any], Rest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Features:
    """What made the features that a head was trained on."""

    sha256: str | None = None
    rest: Annotated[dict[str, Any], Rest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Description:
    """What ``checkpoint.json`` holds, besides the number of its schema."""

    head: str
    shape: Annotated[Shape, Closed]
    files: dict[str, str] = field(default_factory=dict)  # none in those of before there were any
    sha256: str | None = None  # likewise
    config: _Settings = field(default_factory=_Settings)
    fingerprint: _Features | None = None
    chosen_on: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    rest: Annotated[dict[str, Any], Rest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.files and self.sha256 is None:
            raise C4CError("it has checksums of the other files, and has lost its own.")
