"""DiDeMo: holiday videos from Flickr, found by a paragraph: all descriptions, joined.

Annotators saw the first 30 seconds of a video, so a clip is the seconds 0 to 31, as the authors
cut it. Lists name files, with suffixes that need not be those on disk, some with a bare dot at
the end: what counts is the name before them.
"""

from __future__ import annotations

from c4c.config import DatasetSource
from c4c.extract.datasets.shared import Collector, Counts, find_file, unique_ids
from c4c.extract.datasets.tables import clean, must, read_json, read_lines
from c4c.extract.datasets.videos import Videos, bare_stem
from c4c.records import Dataset

SPLITS = ("train", "val", "test")
EXPECTED = {
    "train": Counts(8_392, 8_392),
    "val": Counts(1_065, 1_065),
    "test": Counts(1_004, 1_004),
}
END = 31.0
HINT = (
    "The lists are in albanie/collaborative-experts (misc/datasets/didemo), the JSON files and the "
    "videos at LisaAnne/LocalizingMoments."
)


def load(source: DatasetSource, split: str) -> Dataset:
    """One split. Ids are file names without suffix; videos may have any suffix, or none.

    Raises:
        C4CError: annotations that are missing or wrong.
    """
    lines = read_lines(find_file(source, (f"{split}_list.txt",), HINT))
    ids, notes = unique_ids((where, bare_stem(line.strip())) for where, line in lines)
    path = find_file(source, (f"{split}_data.json",), HINT)
    texts: dict[str, list[str]] = {name: [] for name in ids}
    for number, one in enumerate(must(read_json(path), list, str(path))):
        where = f"{path} [{number}]"
        row = must(one, dict, where)
        name = bare_stem(must(row.get("video"), str, f"{where} video").strip())
        if name in texts:
            texts[name].append(clean(row.get("description"), f"{where} description"))
    videos = Videos(source, bare=True)
    found = Collector(source, split, videos, notes)
    for name in ids:
        if texts[name]:
            text = " ".join(texts[name])
            found.add(name, text, f"{path} '{name}'", videos.find(name), end=END)
    found.lacking(ids, EXPECTED[split].clips)
    return found.dataset(EXPECTED[split])
