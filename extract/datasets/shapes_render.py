"""Pictures of the synthetic benchmark: coloured shapes that move, grow and shrink.

Poses at whole seconds are symmetric about an event's middle, so an event backwards shows the
same set of frames at one frame a second: only their order tells the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

SIZE = 64
FPS = 4
SECONDS = 4  # of one event

COLOURS = {
    "red": (230, 40, 40),
    "green": (40, 200, 60),
    "blue": (50, 80, 240),
    "yellow": (240, 220, 40),
    "magenta": (220, 50, 220),
    "white": (240, 240, 240),
}
SHAPES = ("circle", "square", "triangle", "cross")
OPPOSITE = {
    "moves left": "moves right",
    "moves right": "moves left",
    "moves up": "moves down",
    "moves down": "moves up",
    "grows": "shrinks",
    "shrinks": "grows",
}
_DIRECTIONS = {
    "moves left": (-1, 0),
    "moves right": (1, 0),
    "moves up": (0, -1),
    "moves down": (0, 1),
}
_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE] + 0.5  # middles of the pixels
_TRAVEL = 36.0  # pixels from the first whole second to the last
_RADIUS = 11.0
_GROWTH = 1.2  # change of the radius over an event, as a share of it


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happens: a coloured shape does something for four seconds.

    ``texture`` is for editions whose shapes have one.
    """

    colour: str
    shape: str
    action: str
    texture: str = ""

    def __str__(self) -> str:
        words = (self.texture, self.colour, self.shape, self.action)
        return " ".join(("a", *filter(None, words)))

    def backwards(self) -> Event:
        """The same event played in reverse."""
        return replace(self, action=OPPOSITE[self.action])


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a shape is and how large, in pixels: its middle from the top left, its radius."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Look:
    """What differs between clips of the same events: background, size, place.

    Attributes:
        background: RGB, dark.
        noise: seed of the background's grain.
        scale: of the shape's radius.
        shift: of the path, in pixels (x, y).
    """

    background: tuple[int, int, int]
    noise: int
    scale: float
    shift: tuple[float, float]


def draw_look(generator: np.random.Generator) -> Look:
    """A random look."""
    red, green, blue = (int(value) for value in generator.integers(0, 60, 3))
    x, y = (float(value) for value in generator.uniform(-3, 3, 2))
    return Look(
        (red, green, blue),
        int(generator.integers(1 << 31)),
        float(generator.uniform(0.85, 1.15)),
        (x, y),
    )


def render_clip(events: tuple[Event, ...], look: Look, fps: int = FPS) -> npt.NDArray[np.uint8]:
    """Every frame of a clip: the events one after the other.

    Args:
        events: what happens, four seconds each.
        look: background, size and place.
        fps: frames a second; 1 gives the frames that extraction samples.

    Returns:
        uint8 [len(events) * 4 * fps, 64, 64, 3].
    """
    background = _background(look)
    frames = [
        _draw(background, event, step / fps, look)
        for event in events
        for step in range(SECONDS * fps)
    ]
    return np.stack(frames)


def render_background(look: Look) -> npt.NDArray[np.uint8]:
    """A frame in which nothing happens, uint8 [64, 64, 3]."""
    return np.rint(_background(look)).astype(np.uint8)


def _background(look: Look) -> npt.NDArray[np.float64]:
    grain = np.random.default_rng(look.noise).integers(0, 20, (SIZE, SIZE, 1))
    background: npt.NDArray[np.float64] = np.asarray(look.background, np.float64) + grain
    return background


def _draw(
    background: npt.NDArray[np.float64], event: Event, time: float, look: Look
) -> npt.NDArray[np.uint8]:
    pose = pose_at(event.action, phase_at(time), look)
    cover = _coverage(event.shape, pose)[..., None]
    colour = np.asarray(COLOURS[event.colour], float)
    return np.rint(background * (1 - cover) + colour * cover).astype(np.uint8)


def phase_at(time: float) -> float:
    """How far an event is, ``time`` seconds after its beginning: -0.5 … 0.5 at whole seconds."""
    return (time - (SECONDS - 1) / 2) / (SECONDS - 1)


def pose_at(action: str, phase: float, look: Look) -> Pose:
    """Where a shape is and how large: an action at one phase is its opposite at the negative."""
    dx, dy = _DIRECTIONS.get(action, (0, 0))
    growth = {"grows": 1, "shrinks": -1}.get(action, 0)
    x = SIZE / 2 + look.shift[0] + dx * phase * _TRAVEL
    y = SIZE / 2 + look.shift[1] + dy * phase * _TRAVEL
    return Pose(x, y, _RADIUS * look.scale * max(0.2, 1 + growth * phase * _GROWTH))


def around(pose: Pose) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Of each pixel's middle, how far right of and below a pose it is, [64, 64] both."""
    return _COLUMNS - pose.x, _ROWS - pose.y


def _coverage(shape: str, pose: Pose) -> npt.NDArray[np.float64]:
    """How much of each pixel the shape covers, 0 to 1, from its signed distance."""
    radius = pose.radius
    u, v = around(pose)
    if shape == "circle":
        distance = np.hypot(u, v) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(u), np.abs(v)) - 0.9 * radius
    elif shape == "triangle":
        distance = np.maximum(v - radius, (2 * np.abs(u) - v - radius) / np.sqrt(5))
    else:
        upright = np.maximum(np.abs(u) - radius / 3, np.abs(v) - radius)
        lying = np.maximum(np.abs(u) - radius, np.abs(v) - radius / 3)
        distance = np.minimum(upright, lying)
    covered: npt.NDArray[np.float64] = np.clip(0.5 - distance, 0, 1)
    return covered
