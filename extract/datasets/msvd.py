"""MSVD: 1,970 clips of YouTube, 18 to 81 sentences each; all of them count in evaluation.

``raw-captions.pkl`` holds ``{clip id: [[word, …], …]}``. It is read by an unpickler that knows
plain values only; ``raw-captions.json`` with the same content (or whole sentences) serves too,
and so does the ``captions_msvd.json`` of X-Pool and its followers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from c4c.config import DatasetSource
from c4c.extract.datasets.shared import Collector, Counts, find_file, unique_ids
from c4c.extract.datasets.tables import must, read_json, read_lines
from c4c.extract.datasets.unpickle import read_pickle
from c4c.extract.datasets.videos import Videos
from c4c.records import Dataset

SPLITS = ("train", "val", "test")
EXPECTED = {
    "train": Counts(1_200, 48_774),
    "val": Counts(100, 4_290),
    "test": Counts(670, 27_763),
}
CAPTIONS = ("raw-captions.json", "raw-captions.pkl", "captions_msvd.json")
HINT = (
    "CLIP4Clip's authors give the lists and raw-captions.pkl with their code (msvd_data.zip); the "
    "videos (YouTubeClips, .avi) are MSVD's."
)


def load(source: DatasetSource, split: str) -> Dataset:
    """One split. Videos are ``{clip id}.avi``, or with another suffix.

    Raises:
        C4CError: annotations that are missing or wrong, or a pickle with more than plain values.
    """
    lines = read_lines(find_file(source, (f"{split}_list.txt",), HINT))
    ids, notes = unique_ids((where, line.strip()) for where, line in lines)
    path = find_file(source, CAPTIONS, HINT)
    data = must(read_json(path) if path.suffix == ".json" else read_pickle(path), dict, str(path))
    videos = Videos(source)
    found = Collector(source, split, videos, notes)
    for name in ids:
        for where, text in _sentences(data.get(name, []), f"{path} '{name}'"):
            found.add(name, text, where, videos.find(name))
    found.lacking(ids, EXPECTED[split].clips)
    return found.dataset(EXPECTED[split])


def _sentences(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """(where, sentence) of a clip: each is a list of words, or a text."""
    for number, one in enumerate(must(value, list, where)):
        place = f"{where} caption {number}"
        words = [one] if isinstance(one, str) else must(one, list, place)
        yield place, " ".join(must(word, str, f"{place}: a word") for word in words)
