"""MSVD: 1,970 clips of YouTube, 18 to 81 sentences each; all of them count in evaluation.

``raw-captions.pkl`` holds ``{clip id: [[word, …], …]}``. It is read by an unpickler that knows
plain values only; ``raw-captions.json`` with the same content (or whole sentences) serves too,
and so does the ``captions_msvd.json`` of X-Pool and its followers.
"""

from __future__ import annotations

from c4c.core.config import DatasetSource
from c4c.core.files import read_json
from c4c.core.records import Dataset
from c4c.core.schema import parse
from c4c.extract.datasets.shared import Collector, Counts, find_file, unique_ids
from c4c.extract.datasets.tables import read_lines
from c4c.extract.datasets.unpickle import read_pickle
from c4c.extract.datasets.videos import Videos

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
_Sentence = str | list[str]  # a text, or its words


def load(source: DatasetSource, split: str) -> Dataset:
    """One split. Videos are ``{clip id}.avi``, or with another suffix.

    Raises:
        C4CError: annotations that are missing or wrong, or a pickle with more than plain values.
    """
    lines = read_lines(find_file(source, (f"{split}_list.txt",), HINT))
    ids, notes = unique_ids((where, line.strip()) for where, line in lines)
    path = find_file(source, CAPTIONS, HINT)
    value = read_json(path) if path.suffix == ".json" else read_pickle(path)
    data = parse(dict[str, list[_Sentence]], value, str(path))
    videos = Videos(source)
    found = Collector(source, split, videos, notes)
    for name in ids:
        for number, words in enumerate(data.get(name, [])):
            text = words if isinstance(words, str) else " ".join(words)
            found.add(name, text, f"{path} '{name}' caption {number}", videos.find(name))
    found.lacking(ids, EXPECTED[split].clips)
    return found.dataset(EXPECTED[split])
