"""LSMDC (2016 annotations): short clips of movies, one sentence each.

Three tab-separated files without header; six columns: clip id, start and end as aligned, start
and end as extracted, sentence. The videos are already cut, one file a clip. A clip id may recur
in train and val: each line is a caption of that clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from c4c.core.config import DatasetSource
from c4c.core.errors import C4CError
from c4c.core.records import Dataset
from c4c.extract.datasets.shared import Collector, Counts, check_id, find_file
from c4c.extract.datasets.tables import read_lines
from c4c.extract.datasets.videos import Videos

SPLITS = ("train", "val", "test")
FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",  # sic
}
EXPECTED = {  # ids recur in train and val, and nobody published how many clips that makes
    "train": Counts(None, 101_079),
    "val": Counts(None, 7_408),
    "test": Counts(1_000, 1_000),
}
HINT = (
    "LSMDC is given out on request by its authors; put its annotation files there and the .avi "
    "clips below it."
)
_COLUMNS = 6


def load(source: DatasetSource, split: str) -> Dataset:
    """One split.

    Raises:
        C4CError: files that are missing (and where they were looked for) or wrong lines.
    """
    rows = list(_read(find_file(source, (FILES[split],), HINT)))
    videos = Videos(source)
    found = Collector(source, split, videos)
    for where, name, sentence in rows:
        movie = name.split(".")[0][:-3]  # 0001_Film_00.00.10.000-… lies in 0001_Film/
        found.add(name, sentence, where, videos.find(name, f"{movie}/{name}.avi"))
    return found.dataset(EXPECTED[split])


def _read(path: Path) -> Iterator[tuple[str, str, str]]:
    """(where, clip id, sentence) of each line."""
    empty = True
    for where, line in read_lines(path):
        empty, where = False, f"lsmdc: {where}"
        parts = line.split("\t")
        if len(parts) != _COLUMNS:
            raise C4CError(
                f"{where} has {len(parts)} columns, expected {_COLUMNS} separated by tabs (clip "
                "id, four times, sentence); mend that line (is there a tab in the sentence?)."
            )
        yield where, check_id(parts[0].strip(), where), parts[5]
    if empty:
        raise C4CError(f"lsmdc: {path} is empty.")
