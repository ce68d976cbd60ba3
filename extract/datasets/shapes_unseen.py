"""``shapes-unseen``: the synthetic benchmark with what the shipped backbone has never seen.

Other shapes in other colours, with textures, before backgrounds that move, and other words for
them. Frozen features of the tiny backbone say little here, so a head on them can do little, and
training the backbone shows. Events, twins and splits are those of ``shapes``.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from c4c.core.config import DatasetSource
from c4c.core.records import Dataset
from c4c.extract.datasets import shapes
from c4c.extract.datasets.shapes_render import (
    FPS,
    OPPOSITE,
    SECONDS,
    SIZE,
    Event,
    Look,
    Pose,
    around,
    phase_at,
    pose_at,
)

SPLITS, EXPECTED = shapes.SPLITS, shapes.EXPECTED
COLOURS = {
    "orange": (250, 140, 20),
    "cyan": (30, 210, 220),
    "purple": (140, 70, 190),
    "pink": (250, 160, 190),
}
SHAPES = ("star", "ring", "diamond", "bar")
TEXTURES = ("striped", "dotted")
_PERIOD = 6.0  # pixels from stripe to stripe, and from dot to dot
_DARK = 0.35  # of a colour, between its stripes and dots
_DRIFT = 10.0  # pixels that the background moves to either side
Floats = npt.NDArray[np.float64]


def render_clip(events: tuple[Event, ...], look: Look) -> npt.NDArray[np.uint8]:
    """Every frame of a clip, uint8 [len(events) * 4 * 4, 64, 64, 3]: the events in turn."""
    phases = [phase_at(step / FPS) for step in range(SECONDS * FPS)]
    backgrounds = _backgrounds(look, np.array(phases))
    frames = [
        _draw(background, event, pose_at(event.action, phase, look))
        for event in events
        for background, phase in zip(backgrounds, phases, strict=True)
    ]
    return np.stack(frames)


def _draw(background: Floats, event: Event, pose: Pose) -> npt.NDArray[np.uint8]:
    u, v = around(pose)
    cover = np.clip(0.5 - _distance(event.shape, u, v, pose.radius), 0, 1)[..., None]
    colour = np.asarray(COLOURS[event.colour]) * _shade(event.texture, u, v)[..., None]
    return np.rint(background + (colour - background) * cover).astype(np.uint8)


def _backgrounds(look: Look, phases: Floats) -> Floats:
    """A grating that drifts to and fro, at each phase: [P, 64, 64, 3].

    Its place is the same at a phase and at the negative one, so an event backwards has the same
    frames; and the same at the beginning and the end of an event, so events can change places.
    """
    generator = np.random.default_rng(look.noise)
    angle, wave = generator.uniform(0, np.pi), generator.uniform(9, 18)
    first = look.background + generator.integers(0, 12, (SIZE, SIZE, 1))
    change = generator.uniform(40, 110, 3) - look.background
    drift = _DRIFT * np.cos(2 * np.pi * phases * (SECONDS - 1) / SECONDS)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    here = 2 * np.pi / wave * (columns * np.cos(angle) + rows * np.sin(angle))
    there = (2 * np.pi / wave * drift)[:, None, None]
    # The sine of a sum: so sines are taken of one picture and not of each.
    share = 0.5 + 0.5 * (np.sin(here) * np.cos(there) + np.cos(here) * np.sin(there))
    background: Floats = first + change * share[..., None]
    return background


def _shade(texture: str, u: Floats, v: Floats) -> Floats:
    """How bright each pixel of a textured shape is, [64, 64], 0 to 1."""
    waves = np.sin(2 * np.pi * u / _PERIOD)
    if texture == "dotted":
        waves = waves + np.sin(2 * np.pi * v / _PERIOD) - 0.5
    bright: Floats = np.clip(0.5 + 1.5 * waves, 0, 1)
    return _DARK + (1 - _DARK) * bright


def _distance(shape: str, u: Floats, v: Floats, radius: float) -> Floats:
    """How far each pixel is outside a shape (inside, if negative), [64, 64]."""
    distance: Floats
    if shape == "ring":
        distance = np.abs(np.hypot(u, v) - 0.8 * radius) - 0.3 * radius
    elif shape == "diamond":
        distance = (np.abs(u) + np.abs(v) - 1.2 * radius) / np.sqrt(2)
    elif shape == "bar":
        distance = np.maximum(np.abs(u) - 1.25 * radius, np.abs(v) - 0.4 * radius)
    else:  # a star with five points
        distance = np.hypot(u, v) - radius * (0.8 + 0.45 * np.cos(5 * np.arctan2(u, -v)))
    return distance


EDITION = shapes.Edition(
    "shapes-unseen",
    tuple(Event(*parts) for parts in itertools.product(COLOURS, SHAPES, OPPOSITE, TEXTURES)),
    render_clip,
)


def load(source: DatasetSource, split: str) -> Dataset:
    """One split; the benchmark is made with the default recipe when the root is not there.

    Raises:
        C4CError: the folder is not one of this edition, or not all of it.
    """
    return shapes.load_edition(EDITION, source, split)
