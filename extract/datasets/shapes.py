"""``shapes``: a synthetic benchmark that c4c writes itself, in which order matters.

Two events follow each other in every clip. The val and test splits are made of twins: the
same frames in another order, under another caption. A bag of frames cannot tell twins apart.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.files import fsync_folder, read_json, write_json
from c4c.core.progress import Progress
from c4c.core.records import Caption, Clip, Dataset
from c4c.core.schema import parse, read_record
from c4c.extract.datasets.recipes import Recipe
from c4c.extract.datasets.shapes_render import (
    COLOURS,
    FPS,
    OPPOSITE,
    SHAPES,
    Event,
    Look,
    draw_look,
    render_clip,
)
from c4c.extract.datasets.shared import Counts, check_id
from c4c.extract.datasets.tables import read_table

SPLITS = ("train", "val", "test")
EXPECTED: dict[str, Counts] = {}  # whatever the recipe says was made


@dataclass(frozen=True, slots=True)
class Edition:
    """One edition of the benchmark: what can happen in its clips, and how that looks.

    Attributes:
        name: in the registry of datasets; NAME.json holds the recipe of a folder.
        events: whatever can happen.
        render: events and a look to the frames of a clip, uint8 [n, H, W, 3]. An event backwards
            must show the same frames at whole seconds, or its clip would be no twin.
    """

    name: str
    events: tuple[Event, ...]
    render: Callable[[tuple[Event, ...], Look], npt.NDArray[np.uint8]]


EDITION = Edition(
    "shapes",
    tuple(Event(*parts) for parts in itertools.product(COLOURS, SHAPES, OPPOSITE)),
    render_clip,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One clip before it is drawn; ``twin`` is the id of its twin, if it has one."""

    id: str
    split: str
    events: tuple[Event, Event]
    look: Look
    twin: str | None = None

    @property
    def caption(self) -> str:
        """What the clip shows."""
        return " then ".join(str(event) for event in self.events)


def plan_scenes(recipe: Recipe, edition: Edition = EDITION) -> list[Scene]:
    """Every clip of every split; no caption stands twice.

    Raises:
        C4CError: odd numbers of twins, or more clips than there are captions.
    """
    if recipe.val % 2 or recipe.test % 2 or min(recipe.train, recipe.val, recipe.test) < 0:
        raise C4CError(
            f"{edition.name}: --val and --test count twins: pass even numbers, 0 or more."
        )
    generator = np.random.default_rng(recipe.seed)
    events = edition.events
    pairs = [(one, two) for one in events for two in events if one != two]
    pairs = [pairs[place] for place in generator.permutation(len(pairs))]
    used: set[tuple[Event, Event]] = set()
    scenes: list[Scene] = []
    for split in ("test", "val"):  # first: twins need both captions unused
        scenes += _twins(split, getattr(recipe, split) // 2, pairs, used, generator)
    fresh = [pair for pair in pairs if pair not in used]
    if recipe.train > len(fresh) or len(used) < recipe.val + recipe.test:
        raise C4CError(
            f"{edition.name}: there are only {len(pairs)} captions; ask for fewer clips."
        )
    for number, pair in enumerate(fresh[: recipe.train]):
        scenes.append(Scene(f"train-{number:05d}", "train", pair, draw_look(generator)))
    return scenes


def _twins(
    split: str,
    count: int,
    pairs: list[tuple[Event, Event]],
    used: set[tuple[Event, Event]],
    generator: np.random.Generator,
) -> list[Scene]:
    """``count`` pairs of twins: by turns the other order, and both events backwards."""
    scenes: list[Scene] = []
    for one, two in pairs:
        if len(scenes) == 2 * count:
            break
        number = len(scenes) // 2
        other = (two, one) if number % 2 == 0 else (one.backwards(), two.backwards())
        if used & {(one, two), other}:
            continue
        used |= {(one, two), other}
        look = draw_look(generator)  # the same for both, or it would give them away
        first, second = f"{split}-{number:05d}-a", f"{split}-{number:05d}-b"
        scenes.append(Scene(first, split, (one, two), look, second))
        scenes.append(Scene(second, split, other, look, first))
    return scenes


def make_shapes(root: Path, recipe: Recipe, edition: Edition = EDITION) -> bool:
    """Write the benchmark to ``root``: whole under its name, or not there.

    Returns:
        False when the same recipe already stands there.

    Raises:
        C4CError: something else stands there, or it cannot be written.
    """
    name = f"{edition.name}.json"
    if root.exists():
        if (root / name).exists() and read_json(root / name) == asdict(recipe):
            return False
        raise C4CError(
            f"{root} is already there and was not made with these settings (see its {name}); "
            "pass another --root, or remove it."
        )
    scenes = plan_scenes(recipe, edition)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root.parent, prefix=".tmp-shapes-"))
    except OSError as error:
        raise C4CError(f"Cannot write {root}: {error.strerror}.") from None
    try:
        _write(folder, scenes, edition)
        write_json(folder / name, asdict(recipe))
        os.chmod(folder, 0o755)
        os.rename(folder, root)
        fsync_folder(root.parent)
    except OSError as error:
        if (root / name).exists():  # another process was quicker with the same
            return False
        raise C4CError(f"Cannot write {root}: {error.strerror}.") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return True


def _write(folder: Path, scenes: list[Scene], edition: Edition) -> None:
    (folder / "videos").mkdir()
    with (
        (folder / "captions.jsonl").open("w", encoding="utf-8") as captions,
        Progress(f"make {edition.name}", len(scenes)) as progress,
    ):
        for scene in scenes:
            write_video(
                folder / "videos" / f"{scene.id}.mp4", edition.render(scene.events, scene.look)
            )
            row = {
                "clip": scene.id,
                "split": scene.split,
                "caption": scene.caption,
                "twin": scene.twin,
            }
            captions.write(json.dumps(row) + "\n")
            progress.step()


def write_video(path: Path, frames: npt.NDArray[np.uint8], fps: int = FPS) -> None:
    """Encode uint8 [n, H, W, 3] as H.264 in MP4, a key frame a second, near lossless."""
    import av

    with av.open(str(path), "w", format="mp4") as container:
        options = {"crf": "14", "preset": "veryfast", "g": str(fps), "threads": "1"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for picture in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def load(source: DatasetSource, split: str) -> Dataset:
    """One split; the benchmark is made with the default recipe when the root is not there.

    Raises:
        C4CError: the folder is not one that ``make_shapes`` wrote, or not all of it.
    """
    return load_edition(EDITION, source, split)


def load_edition(edition: Edition, source: DatasetSource, split: str) -> Dataset:
    """``load`` for any edition."""
    root, name = source.root, edition.name
    if not root.exists():
        make_shapes(root, Recipe(), edition)
    recipe = root / f"{name}.json"
    if not recipe.exists():
        raise C4CError(
            f"{root} ({source.looked}) holds no {name} benchmark (no {recipe.name}); remove it or "
            f"run: c4c dataset make {name} --root FOLDER"
        )
    rows = _read_rows(recipe, split)
    return Dataset(
        name,
        split,
        tuple(Clip(row.clip, str(root / "videos" / f"{row.clip}.mp4")) for row in rows),
        tuple(Caption(row.clip, row.clip, row.caption) for row in rows),
        twins={row.clip: row.twin for row in rows if row.twin},
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of ``captions.jsonl``."""

    clip: str
    split: str
    caption: str
    twin: str | None


def _read_rows(recipe: Path, split: str) -> list[_Row]:
    """Rows of a split, sorted by clip: as many as were made, each with its video."""
    root = recipe.parent
    path = root / "captions.jsonl"
    try:
        made = {name: getattr(read_record(recipe, Recipe), name) for name in SPLITS}
        rows = [parse(_Row, row, where) for where, row in read_table(path)]
        rows = [row for row in rows if row.split == split]
        names = [check_id(row.clip, str(path)) for row in rows]
        lost = [name for name in names if not _has_bytes(root / "videos" / f"{name}.mp4")]
        if len(set(names)) != made.get(split) or lost:
            there = f"{len(set(names))} of {made.get(split, 0)} clips"
            what = f"{len(lost)} videos are lost" if lost else there
            raise C4CError(f"{split} has {what}" + (f" (first {lost[0]}.mp4)" if lost else ""))
        return sorted(rows, key=lambda row: row.clip)
    except C4CError as error:
        raise C4CError(
            f"{root} was damaged after it was made ({error}); remove it and make it again."
        ) from None


def _has_bytes(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
