"""A gallery's windows for other programs: FAISS, and the layout that clip-retrieval reads.

``parquet``: ``img_emb/img_emb_0000.npy`` (unit vectors, float16) and
``metadata/metadata_0000.parquet`` (a row a vector: ``image_path``, ``clip``, ``split``, ``start``,
``end``), a pair for each piece.
``faiss``: ``image.index``, an exact index of inner products, beside the same ``metadata``.
``faiss-ivfpq``: an IVF-PQ index beside both, to be searched by ``gallery_faiss.FaissGallery``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from c4c.core.errors import C4CError
from c4c.core.files import write_atomic
from c4c.retrieval.choices import GALLERY_FORMS
from c4c.retrieval.gallery_faiss import INDEX, VECTORS, blocks, write_faiss

if TYPE_CHECKING:
    from c4c.retrieval.gallery import Gallery
    from c4c.retrieval.gallery_piece import Piece


def export_gallery(gallery: Gallery, form: str, out: Path) -> list[Path]:
    """Write the windows of a gallery; those of clips that are gone are left out.

    Args:
        gallery: what is written.
        form: ``faiss``, ``faiss-ivfpq`` or ``parquet``.
        out: the folder.

    Returns:
        The files. Vectors and rows of ``metadata`` are in one order, piece after piece.

    Raises:
        C4CError: an unknown form, nowhere to write, a package that is not installed, an
            empty gallery, or too few windows for IVF-PQ.
    """
    if form not in GALLERY_FORMS:
        raise C4CError(f"Unknown form '{form}'. Known: {', '.join(GALLERY_FORMS)}.")
    written, rows_of = [], list(_rows(gallery))
    if not sum(len(rows) for *_, rows in rows_of):
        raise C4CError("The gallery is empty: there is nothing to write.")
    if form != "parquet":  # first, for it may be refused
        parts = [(piece.windows.numpy(), rows) for piece, _, rows in rows_of]
        written.append(write_faiss(parts, out / INDEX, packed=form == "faiss-ivfpq"))
    for number, (piece, split, rows) in enumerate(rows_of):
        table = out / "metadata" / f"metadata_{number:04d}.parquet"
        written.append(_write_table(piece, split, rows, table))
        if form != "faiss":
            vectors = out / VECTORS / f"img_emb_{number:04d}.npy"
            written.append(_write_vectors(piece, rows, vectors))
    return written


def _rows(gallery: Gallery) -> Iterator[tuple[Piece, str, npt.NDArray[np.int64]]]:
    """Of each piece its split, and the windows whose clips are still there."""
    for piece, split, gone in zip(gallery.pieces, gallery.splits, gallery.gone, strict=True):
        every = np.ones(len(piece), np.bool_) if gone is None else ~gone
        yield piece, split, piece.rows_of(every)


def _write_vectors(piece: Piece, rows: npt.NDArray[np.int64], path: Path) -> Path:
    shape = len(rows), piece.windows.shape[1]
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}

    def write(target: Path) -> None:
        with target.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for block in blocks(piece.windows.numpy(), rows):
                stream.write(np.ascontiguousarray(block, "<f2").tobytes())

    write_atomic(path, write)
    return path


def _write_table(piece: Piece, split: str, rows: npt.NDArray[np.int64], path: Path) -> Path:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise C4CError("This needs pyarrow: pip install 'c4c[parquet]'.") from None
    columns: dict[str, list[Any]] = {name: [] for name in ("image_path", "clip", "start", "end")}
    for clip, first, last in piece.spans[rows].tolist():
        named = piece.name(clip)
        columns["image_path"].append(named.path)
        columns["clip"].append(named.id)
        columns["start"].append(round(named.start + float(piece.clip_frames(clip)[1][first]), 3))
        columns["end"].append(round(named.start + float(piece.clip_times(clip)[1][last - 1]), 3))
    table = pa.table({**columns, "split": [split] * len(rows)})
    write_atomic(path, lambda target: pq.write_table(table, target))
    return path
