"""Reads damaged files of every kind: ``fuzz.py FOLDER SEED TIMES`` prints what came of each kind.

A process of its own, since a reader may hang inside a library or end the process: then the last
case stands in ``FOLDER/now``, and its bytes in ``FOLDER/input``. Run by hand for longer:
``python tests/faults/fuzz.py /tmp/fuzz 7 100``, or ``KIND`` as a fourth argument for one kind.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutate import mutated, mutated_json
from playground import Playground

from c4c.core.errors import C4CError
from c4c.core.schema import sealed

_SECONDS = 20.0  # that a case may take on a busy machine
_GIGABYTES = 6  # of address space beyond what is mapped when the reading begins


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: of it.
        path: a good one.
        read: reads it, and all that depends on it; gives what should not change.
        checked: whether any change must be noticed, or change nothing.
        times: cases of a run.
        lines: whether each line is JSON.
    """

    name: str
    path: Path
    read: Callable[[], Any]
    checked: bool = False
    times: int = 60
    lines: bool = False


def cases(kind: Kind, seed: int, times: int) -> Any:
    """(number, bytes, whether a change must be noticed) of the cases of a kind."""
    whole = kind.path.read_bytes()
    for number in range(kind.times * times):
        chance = random.Random(f"{kind.name} {seed} {number}")
        tree = kind.path.suffix == ".json" or kind.lines
        if not tree or chance.random() < 0.4:
            yield number, mutated(whole, chance, chance.choice(OTHERS)), kind.checked
        elif kind.lines:
            lines = whole.splitlines()
            place = chance.randrange(len(lines))
            lines[place] = json.dumps(mutated_json(json.loads(lines[place]), chance)).encode()
            yield number, b"\n".join(lines) + b"\n", kind.checked
        else:
            value = mutated_json(json.loads(whole), chance)
            again = kind.checked and isinstance(value, dict) and chance.random() < 0.6
            value = sealed(value) if again else value
            yield number, json.dumps(value).encode(), kind.checked and not again


OTHERS = [b"PK\x03\x04" + bytes(range(256)), b"\x89HDF\r\n\x1a\n" + bytes(64), b'{"schema": 9}']


def put(path: Path, data: bytes) -> None:
    """Under a new inode: what was mapped of the former file stays what it is."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(data)
    os.replace(aside, path)


def digest(value: Any) -> str:
    """A value as something that can be compared; floats keep every bit."""
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()


def run(kind: Kind, folder: Path, seed: int, times: int) -> dict[str, Any]:
    """What came of the cases of a kind."""
    whole = kind.path.read_bytes()
    right = digest(kind.read())
    told: dict[str, Any] = {"refused": 0, "same": 0, "other": 0, "wrong": []}
    for number, data, checked in cases(kind, seed, times):
        (folder / "now").write_text(f"{kind.name} {number}")
        (folder / "input").write_bytes(data)
        put(kind.path, data)
        faulthandler.dump_traceback_later(3 * _SECONDS, exit=True)
        begun = time.monotonic()
        try:
            same = digest(kind.read()) == right
            told["same" if same else "other"] += 1
            problem = "a change was not noticed" if checked and not same else ""
        except C4CError as error:
            told["refused"] += 1
            problem = "an error of several lines" if "\n" in str(error) else ""
        except BaseException:
            problem = traceback.format_exc(limit=-6)
        faulthandler.cancel_dump_traceback_later()
        if time.monotonic() - begun > _SECONDS:
            problem = problem or "it took too long"
        if problem:
            told["wrong"].append(f"{kind.name} {number}: {problem}")
            (folder / f"{kind.name}-{number}").write_bytes(data)
        put(kind.path, whole)
    return told


def limit_memory() -> None:
    """A few bytes that claim much are a MemoryError, not the end of the machine."""
    import resource

    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = now + (_GIGABYTES << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Make good files, then damage them."""
    folder, seed, times = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    Playground(folder / "good")  # made once, and damaged in a copy
    shutil.rmtree(folder / "work", ignore_errors=True)
    shutil.copytree(folder / "good", folder / "work")
    kinds = [Kind(**one) for one in Playground(folder / "work").kinds()]
    limit_memory()
    wanted = sys.argv[4:]
    told = {
        kind.name: run(kind, folder, seed, times)
        for kind in kinds
        if not wanted or kind.name in wanted
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
