"""An evaluation for other programs: TREC's run and qrels files, and the matrix of scores."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic, write_json
from c4c.retrieval.evaluate import Evaluation
from c4c.retrieval.scores import Block, Scores

# TREC's columns are separated by white space.
_UNSAFE = re.compile(r"[\s%]")


def trec_id(name: str) -> str:
    """An id as one word: white space and percent signs are written as in a URL.

    >>> trec_id("a dog 100%")
    'a%20dog%20100%25'
    """
    return _UNSAFE.sub(lambda found: "".join(f"%{b:02X}" for b in found[0].encode()), name)


def write_trec(found: Evaluation, prefix: Path) -> list[Path]:
    """Write a run and its qrels for both directions: ``PREFIX.t2v.run`` and so on.

    Queries of ``t2v`` are captions and its documents clips; those of ``v2t`` are captioned clips
    and its documents groups of captions, named by their clip, which score as their best one. A
    run ranks the whole gallery. Tied answers stand in the order of their ids. Scores are float32
    and fall strictly, so that every program reads the same order: after a tie they are a hair
    lower than they were.

    Returns:
        The files.

    Raises:
        C4CError: ids are not unique, or nowhere to write.
    """
    scores = _scores(found)
    captions = [name for name, _, _ in found.captions]
    of_caption = [clip for _, clip, _ in found.captions]
    tag = trec_id(f"c4c-{found.head}")
    return [
        *_write(prefix, "t2v", captions, found.gallery, of_caption, scores.t2v(), tag),
        *_write(prefix, "v2t", found.clips, found.clips, found.clips, scores.v2t(), tag),
    ]


def tied_note(found: Evaluation) -> str:
    """What the ties of an evaluation mean for its run; empty when no right answer ties."""
    tied = {way: int((ranks.ties > 1).sum()) for way, ranks in found.ranks.items()}
    if not any(tied.values()):
        return ""
    told = ", ".join(f"{number} of {way}" for way, number in tied.items() if number)
    return (
        f"; the right answers of some queries tie ({told}): the run breaks ties by id, and the "
        "table counts every order of them alike, so figures made from the run differ there"
    )


def _scores(found: Evaluation) -> Scores:
    if found.scores is None:
        raise ValueError("this evaluation was made without its scores")
    return found.scores


def _write(
    prefix: Path,
    way: str,
    queries: Sequence[str],
    gallery: Sequence[str],
    right: Sequence[str],
    blocks: Iterator[Block],
    tag: str,
) -> list[Path]:
    for names in (queries, gallery):
        if len(set(names)) < len(names):
            raise C4CError("TREC files need unique ids, and splits share some; name a --split.")
    run, qrels = (prefix.with_name(f"{prefix.name}.{way}.{kind}") for kind in ("run", "qrels"))
    asked = [trec_id(name) for name in queries]

    def write_run(path: Path) -> None:
        with path.open("w", encoding="utf-8", errors="surrogateescape") as stream:
            for places, scores in blocks:
                for place, row in zip(places, scores, strict=True):
                    _write_ranking(stream, asked[place], row, documents, by_id, tag)

    documents = [trec_id(name) for name in gallery]
    by_id = np.argsort(np.argsort(np.array(documents)))
    write_atomic(run, write_run)
    lines = (f"{query} 0 {trec_id(name)} 1\n" for query, name in zip(asked, right, strict=True))
    write_atomic(qrels, "".join(lines).encode("utf-8", "surrogateescape"))
    return [run, qrels]


def _write_ranking(
    stream: TextIO,
    query: str,
    scores: npt.NDArray[np.float64],
    documents: Sequence[str],
    by_id: npt.NDArray[np.int64],
    tag: str,
) -> None:
    """The lines of one query, best first."""
    order = np.lexsort((by_id, -scores))
    falling = strictly_falling(scores[order])
    for rank, (place, score) in enumerate(zip(order, falling, strict=True), 1):
        stream.write(f"{query} Q0 {documents[place]} {rank} {score!s} {tag}\n")


def strictly_falling(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Falling scores as float32, each one that is not below the last by itself put just below it.

    >>> strictly_falling(np.array([2.0, 1.0, 1.0])).tolist()
    [2.0, 1.0, 0.9999999403953552]
    """
    found = scores.astype(np.float32)
    least = np.float32(-np.inf)
    for place in np.flatnonzero(np.diff(found, prepend=np.float32(np.inf)) >= 0):
        stop = int(place)
        while stop < len(found) and stop and found[stop] >= found[stop - 1]:
            found[stop] = np.nextafter(found[stop - 1], least)
            stop += 1
    return found


def write_similarity(found: Evaluation, path: Path) -> list[Path]:
    """Write the scores of text to video as NPY, float32 [captions, clips], and whose they are.

    It is written block by block and may be larger than the memory: ``numpy.load(path,
    mmap_mode="r")`` maps it. ``NAME.ids.json`` beside it holds ``captions`` (id, clip id), a row
    each, and ``clips``, a column each.

    Returns:
        The files.

    Raises:
        C4CError: nowhere to write.
    """
    shape = len(found.captions), len(found.gallery)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}

    def write(target: Path) -> None:
        with target.open("wb") as stream:  # not mapped: a full disk would kill the process
            np.lib.format.write_array_header_1_0(stream, header)
            for _, scores in _scores(found).t2v():
                stream.write(np.ascontiguousarray(scores, "<f4").tobytes())

    write_atomic(path, write)
    ids = path.with_name(f"{path.stem}.ids.json")
    captions = [[name, clip] for name, clip, _ in found.captions]
    write_json(ids, {"captions": captions, "clips": list(found.gallery)})
    return [path, ids]
