"""DiDeMo: holiday videos from Flickr, found by a paragraph: all descriptions, joined.

Annotators saw the first 30 seconds of a video, so a clip is the seconds 0 to 31, as the authors
cut it. Lists name files with suffixes of all kinds, some with a bare dot at the end; on disk are
the very names, or these with another suffix in its place or behind it.
"""

from __future__ import annotations

from c4c.core.config import DatasetSource
from c4c.core.records import Dataset
from c4c.extract.datasets.shared import Collector, Counts, find_file, unique_ids
from c4c.extract.datasets.tables import clean, must, read_json, read_lines
from c4c.extract.datasets.videos import Videos, bare_stem

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
    listed = [
        (at, line.strip())
        for at, line in read_lines(find_file(source, (f"{split}_list.txt",), HINT))
    ]
    ids, notes = unique_ids((where, _stem(file)) for where, file in listed)
    files: dict[str, dict[str, None]] = {name: {} for name in ids}
    for _, file in listed:
        files[_stem(file)][file] = None
    path = find_file(source, (f"{split}_data.json",), HINT)
    texts: dict[str, list[str]] = {name: [] for name in ids}
    for number, one in enumerate(must(read_json(path), list, str(path))):
        where = f"{path} [{number}]"
        row = must(one, dict, where)
        file = must(row.get("video"), str, f"{where} video").strip()
        if (name := _stem(file)) in texts:
            texts[name].append(clean(row.get("description"), f"{where} description"))
            files[name][file] = None
    videos = Videos(source, bare=True)
    found = Collector(source, split, videos, notes)
    for name in ids:
        if texts[name]:
            named = (videos.find(file) for file in (*files[name], name))
            video = next((one for one in named if one is not None), None)
            found.add(name, " ".join(texts[name]), f"{path} '{name}'", video, end=END)
    found.lacking(ids, EXPECTED[split].clips)
    return found.dataset(EXPECTED[split])


def _stem(file: str) -> str:
    """A listed name less its suffix, of whatever kind."""
    stem = bare_stem(file)
    return stem if stem != file else file.rpartition(".")[0] or file
