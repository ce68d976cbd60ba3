"""Compares a dataset on disk with what its benchmark should hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from c4c.config import DatasetSource
from c4c.extract.datasets import DATASETS, dataset_splits, load_dataset
from c4c.extract.datasets.shared import Counts
from c4c.files import write_atomic
from c4c.records import Dataset


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, split by split."""

    name: str
    expected: dict[str, Counts]
    datasets: tuple[Dataset, ...]

    def table(self) -> str:
        """Expected and found, a line a split, then what was noticed."""
        lines = [f"{'split':<12}{'clips':>9}{'expected':>10}{'missing':>9}{'captions':>10}"]
        for one in self.datasets:
            counts = self.expected.get(one.split)
            known = str(counts.clips) if counts else "-"
            lines.append(
                f"{one.split:<12}{len(one.clips):>9}{known:>10}{len(one.missing):>9}"
                f"{len(one.captions):>10}"
            )
        lines += [f"{one.split}: {note}" for one in self.datasets for note in one.notes]
        lines += self._repeated() + self._leaks()
        return "\n".join(lines)

    def _repeated(self) -> list[str]:
        lines = []
        for one in self.datasets:
            texts = [caption.text for caption in one.captions]
            again = len(texts) - len(set(texts))
            if again:
                lines.append(f"{one.split}: {again} captions repeat an earlier one word for word")
        return lines

    def _leaks(self) -> list[str]:
        lines = []
        for place, one in enumerate(self.datasets):
            for other in self.datasets[place + 1 :]:
                shared = {c.id for c in one.clips} & {c.id for c in other.clips}
                if shared:
                    lines.append(
                        f"{one.split} and {other.split} share {len(shared)} clips "
                        f"(first '{min(shared)}'): results on one leak from the other"
                    )
        return lines


def check_dataset(source: DatasetSource, splits: tuple[str, ...], strict: bool) -> Report:
    """Load every split asked for (by default all).

    Raises:
        C4CError: what the loader raises; with ``strict``, anything missing.
    """
    wanted = splits or dataset_splits(source.name)
    datasets = tuple(load_dataset(source, split, strict) for split in wanted)
    return Report(source.name, DATASETS[source.name].EXPECTED, datasets)


def write_missing(report: Report, path: Path) -> None:
    """Ids of clips without a video, a line each: split, tab, id."""
    lines = [f"{one.split}\t{name}\n" for one in report.datasets for name in one.missing]
    write_atomic(path, "".join(lines).encode("utf-8", "surrogateescape"))
