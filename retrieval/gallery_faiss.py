"""Exported windows in FAISS: an exact index, or IVF-PQ whose candidates are scored exactly.

IVF-PQ reads a small part of codes of D / 8 bytes a vector, so it is for galleries that exact
search takes too long for. What it finds is scored again with the vectors themselves, which lie
beside it (``img_emb/*.npy``) and are mapped, not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic

INDEX, VECTORS = "image.index", "img_emb"
LEAST = 10_000  # vectors: each of the 256 codes of a part of a vector needs 39, says FAISS
_BITS = 8
_SAMPLE = 64  # vectors that train a cell
_BLOCK = 1 << 16  # vectors copied at a time
Floats = npt.NDArray[np.float32]
Half = npt.NDArray[np.float16]
# The vectors of a piece, and which of them.
Part = tuple[Half, npt.NDArray[np.int64]]


def write_faiss(parts: Sequence[Part], path: Path, packed: bool) -> Path:
    """Write an index of inner products over some vectors, part after part.

    Args:
        parts: at least one; of each the vectors [n, D] and the rows that count.
        path: the file.
        packed: IVF-PQ instead of exact.

    Raises:
        C4CError: FAISS is not installed, or there are too few vectors to train IVF-PQ.
    """
    faiss = _faiss()
    dim = parts[0][0].shape[1]
    index: Any = _trained(faiss, parts, dim) if packed else faiss.IndexFlatIP(dim)
    for vectors, rows in parts:
        for block in blocks(vectors, rows):
            index.add(block.astype(np.float32))
    write_atomic(path, lambda target: faiss.write_index(index, str(target)))
    return path


def blocks(vectors: Half, rows: npt.NDArray[np.int64]) -> Iterator[Half]:
    """Rows of mapped vectors, so many at a time that little is held."""
    for first in range(0, len(rows), _BLOCK):
        yield vectors[rows[first : first + _BLOCK]]


def _trained(faiss: Any, parts: Sequence[Part], dim: int) -> Any:
    """An empty IVF-PQ index, trained on vectors drawn at random from all parts."""
    total = sum(len(rows) for _, rows in parts)
    if total < LEAST:
        raise C4CError(
            f"IVF-PQ is trained on {LEAST:,} windows or more, and the gallery has {total:,}; exact "
            "search of these takes milliseconds: --export faiss."
        )
    cells = min(round(4 * math.sqrt(total)), total // 39)
    share = min(1.0, _SAMPLE * max(cells, 1 << _BITS) / total)
    generator = np.random.default_rng(0)
    sample = [vectors[rows[generator.random(len(rows)) < share]] for vectors, rows in parts]
    pieces = next(count for count in range(max(1, dim // 8), 0, -1) if dim % count == 0)
    metric = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFPQ(faiss.IndexFlatIP(dim), dim, cells, pieces, _BITS, metric)
    index.train(np.concatenate(sample).astype(np.float32))
    return index


class FaissGallery:
    """An export of ``c4c index --export faiss-ivfpq``, searched; the vectors decide the order.

    FAISS does not check what is in an index: open only what you exported.

    Args:
        folder: the export.
        probes: cells looked at for a query; more find more and take longer.
        candidates: vectors scored exactly for a query, at least as many as answers are wanted.

    Raises:
        C4CError: FAISS is not installed, or the folder holds no such export.
    """

    def __init__(self, folder: str | Path, probes: int = 32, candidates: int = 200) -> None:
        folder = Path(folder)
        paths = sorted((folder / VECTORS).glob("*.npy"))
        if not (folder / INDEX).is_file() or not paths:
            raise C4CError(
                f"{folder} has no {INDEX} with {VECTORS}/*.npy; write both with: "
                f"c4c index --export faiss-ivfpq --out {folder}"
            )
        faiss = _faiss()
        self._index = faiss.read_index(str(folder / INDEX))
        self._probing = faiss.SearchParametersIVF(nprobe=probes)
        self._candidates = candidates
        self._vectors = [np.lib.format.open_memmap(path, mode="r") for path in paths]
        self._begins = np.cumsum([0, *map(len, self._vectors)])
        if self._index.ntotal != len(self):
            raise C4CError(
                f"{folder}: {INDEX} has {self._index.ntotal} vectors and {VECTORS} {len(self)}; "
                "export it again."
            )

    def __len__(self) -> int:
        return int(self._begins[-1])

    def nearest(self, queries: Floats, k: int = 10) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The rows with the largest inner products, of those that the index proposes.

        Args:
            queries: unit vectors [Q, D].
            k: answers a query.

        Returns:
            Scores and rows [Q, k], best first; rows are those of ``metadata``, piece after
            piece, and -1 (with a score of minus infinity) where there are no more.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        count = max(k, self._candidates)
        rows = self._index.search(queries, count, params=self._probing)[1]
        scores = np.full(rows.shape, -np.inf, np.float32)
        for own, query, score in zip(rows, queries, scores, strict=True):
            score[own >= 0] = self._read(own[own >= 0]) @ query
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)

    def _read(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Vectors float32 [n, D] of some rows, from the mapped files."""
        found = np.empty((len(rows), self._index.d), np.float32)
        part = np.searchsorted(self._begins, rows, side="right") - 1
        for number in np.unique(part):
            own = part == number
            found[own] = self._vectors[number][rows[own] - self._begins[number]]
        return found


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise C4CError("FAISS is not installed: pip install 'c4c[faiss]'.") from None
    return faiss
