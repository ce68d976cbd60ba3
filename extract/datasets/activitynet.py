"""ActivityNet Captions: minutes of video, found by a paragraph: all its sentences, joined.

Ids begin with ``v_``, files mostly do not. The gallery of the paper is the annotations' "val_1",
and its figures are chosen and reported on it: here it is ``test``, so that nothing is chosen on
it by default. There is no other labelled set, hence no ``val``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from c4c.core.config import DatasetSource
from c4c.core.records import Dataset
from c4c.core.schema import read_record
from c4c.extract.datasets.shared import Collector, Counts, find_file, unique_ids
from c4c.extract.datasets.tables import clean
from c4c.extract.datasets.videos import Videos

SPLITS = ("train", "test")
FILES = {"train": ("train_ids.json", "train.json"), "test": ("val_ids.json", "val_1.json")}
EXPECTED = {  # of 10,024 and 4,926 listed ids these have captions: a paragraph each
    "train": Counts(10_009, 10_009),
    "test": Counts(4_917, 4_917),
}
HINT = "ActivityNet Captions gives its JSON files on its page (captions.zip); the videos are apart."


@dataclass(frozen=True, slots=True)
class _Video:
    """What is said of one video, in sentences one after the other."""

    sentences: tuple[str, ...]


def load(source: DatasetSource, split: str) -> Dataset:
    """One split: whole videos, ``{id}.mp4`` without ``v_`` (or with it, or another suffix).

    Raises:
        C4CError: annotations that are missing or wrong.
    """
    ids_file, captions_file = (find_file(source, (name,), HINT) for name in FILES[split])
    ids, notes = _ids(ids_file)
    data = read_record(captions_file, dict[str, _Video])
    videos = Videos(source)
    found = Collector(source, split, videos, notes)
    for name in ids:
        if name not in data:
            continue
        where = f"{captions_file} '{name}'"
        text = " ".join(clean(one, f"{where} sentence") for one in data[name].sentences)
        bare = name.removeprefix("v_")
        found.add(name, text, where, videos.find(bare) or videos.find(f"v_{bare}"))
    found.lacking(ids, EXPECTED[split].clips)
    return found.dataset(EXPECTED[split])


def _ids(path: Path) -> tuple[list[str], list[str]]:
    listed = read_record(path, list[str])
    return unique_ids((f"{path} [{number}]", name) for number, name in enumerate(listed))
