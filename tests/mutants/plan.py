"""Which mistakes are planted, in which order, and which tests should notice them."""

from __future__ import annotations

import hashlib
import subprocess
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import zip_longest
from pathlib import Path

from operators import Mutant, compiles, make_mutant, mutants_of

LIST = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant that changes nothing a test could see, as somebody has found out."""

    file: str
    before: str
    after: str
    why: str

    def is_of(self, mutant: Mutant) -> bool:
        """Whether it is this mutant; without ``after`` every one of that line is."""
        return (
            _base(mutant.file) == _base(self.file)
            and self.before in mutant.before
            and self.after in ("", mutant.after)
        )


class Plan:
    """What ``mutants.toml`` says of a repository.

    Attributes:
        sources: Python files of all rooms, by path.
        grave: the hand-written mutants.
        stale: entries that fit no source any more, in words.
        equivalents: mutants known to change nothing.
    """

    def __init__(self, root: Path) -> None:
        table = tomllib.loads(LIST.read_text(encoding="utf-8"))
        self._tests: dict[str, list[str]] = table["tests"]
        self.equivalents = [Equivalent(**{"after": "", **one}) for one in table["equivalent"]]
        paths = [path for path in tracked(root) if path.endswith(".py") and self.tests_for(path)]
        self.sources = {path: (root / path).read_bytes() for path in paths}
        self.stale: list[str] = []
        self.grave = [made for one in table["grave"] if (made := self._grave(**one))]

    def tests_for(self, path: str) -> list[str]:
        """Test files (or ids) that should notice a mistake in a source, in the order to run."""
        if path.startswith(("tests/", "benchmarks/", ".")):
            return []
        return next((own for key, own in self._tests.items() if fnmatch(path, key)), [])

    def _grave(self, file: str, find: str, put: str) -> Mutant | None:
        """The mutant of an entry; its file may have moved, its text is what counts."""
        named = [path for path in self.sources if path == file]
        alike = [path for path in self.sources if _base(path) == _base(file)]
        for paths in (named, alike, list(self.sources)):
            holding = [path for path in paths if self.sources[path].count(find.encode()) == 1]
            if len(holding) == 1:
                source = self.sources[holding[0]]
                start = source.index(find.encode())
                span = (start, start + len(find.encode()))
                return make_mutant(holding[0], source, span, put, "grave")
        self.stale.append(f"{file}: no single place with {find!r}")
        return None

    def why_equivalent(self, mutant: Mutant) -> str:
        """Why a mutant changes nothing; empty when it should be noticed."""
        return next((one.why for one in self.equivalents if one.is_of(mutant)), "")

    def by_room(self) -> dict[str, list[Mutant]]:
        """Operator mutants of every room, in an order that other edits of the code leave alone."""
        rooms: dict[str, list[Mutant]] = {}
        for path, source in self.sources.items():
            rooms.setdefault(room_of(path), []).extend(mutants_of(path, source))
        return rooms

    def draw(self, rooms: dict[str, list[Mutant]], seed: int) -> Iterator[Mutant]:
        """Grave ones first, then one of each room in turn, drawn by ``seed``."""
        yield from self.grave
        drawn = [sorted(own, key=lambda one: _lot(one, seed)) for own in rooms.values()]
        for row in zip_longest(*drawn):
            for mutant in row:
                if mutant and compiles(mutant.apply(self.sources[mutant.file])):
                    yield mutant

    def key(self, mutant: Mutant) -> str:
        """What a verdict is of: a mutant, and the tests that were run on it."""
        return f"{mutant.id} {' '.join(self.tests_for(mutant.file))}"

    def digest(self, root: Path) -> str:
        """Of sources and tests: verdicts hold for these only."""
        told = hashlib.sha256()
        for path in tracked(root):
            own = path.startswith("tests/mutants/")
            if path in self.sources or (path.startswith("tests/") and not own):
                told.update(path.encode() + b"\0" + (root / path).read_bytes())
        return told.hexdigest()[:12]


def tracked(root: Path) -> list[str]:
    """Files that git knows of, or would if they were added."""
    command = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    return sorted(path for path in listed.split("\0") if path and (root / path).is_file())


def room_of(path: str) -> str:
    """The top-level folder of a source."""
    return path.split("/", 1)[0]


def chosen(mutants: Sequence[Mutant], words: Sequence[str]) -> list[Mutant]:
    """Those whose id or file is among ``words``."""
    return [one for one in mutants if one.id in words or one.file in words]


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _lot(mutant: Mutant, seed: int) -> str:
    return hashlib.sha256(f"{seed} {mutant.id}".encode()).hexdigest()
