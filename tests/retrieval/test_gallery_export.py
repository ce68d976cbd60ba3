"""A gallery in other programs: the same answers, and the clip and seconds of each vector."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from c4c.cli.app import group
from c4c.core.errors import C4CError
from c4c.retrieval.gallery import Gallery
from c4c.retrieval.gallery_export import export_gallery
from c4c.retrieval.searcher import Searcher

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def gallery(shapes_cache: Path) -> Gallery:
    return Searcher(shapes_cache, device="cpu").gallery


def rows(out: Path) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted((out / "metadata").iterdir())
        for row in pq.read_table(path).to_pylist()
    ]


def check_rows(gallery: Gallery, told: list[dict[str, Any]]) -> None:
    """Against the pieces themselves, window by window."""
    own = [
        (piece.name(clip).path, piece.name(clip).id, split, piece.clip_frames(clip)[1][first])
        for piece, split in zip(gallery.pieces, gallery.splits, strict=True)
        for clip, first, _ in piece.spans.tolist()
    ]
    keys = ("image_path", "clip", "split", "start")
    assert [tuple(row[key] for key in keys) for row in told] == own
    assert all(row["start"] < row["end"] <= 8 for row in told)


@pytest.mark.shows("index", "--export", "--out")
def test_vectors_and_tables_lie_as_clip_retrieval_reads_them(
    gallery: Gallery, shapes_cache: Path, tmp_path: Path
) -> None:
    command = ["index", str(shapes_cache), "--export", "parquet", "--out", str(tmp_path)]
    done = CliRunner().invoke(group, command, catch_exceptions=False)
    files = sorted((tmp_path / "img_emb").iterdir())
    assert all(str(path) in done.stdout for path in files)
    vectors = np.concatenate([np.load(path) for path in files])
    own = torch.cat([piece.windows for piece in gallery.pieces]).numpy()
    assert vectors.dtype == np.float16 and np.array_equal(vectors, own)
    check_rows(gallery, rows(tmp_path))
    with pytest.raises(C4CError, match="--out DIR"):
        CliRunner().invoke(group, command[:-2], catch_exceptions=False)


def test_faiss_answers_as_the_gallery_does(gallery: Gallery, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    export_gallery(gallery, "faiss", tmp_path)
    index = faiss.read_index(str(tmp_path / "image.index"))
    told = rows(tmp_path)
    check_rows(gallery, told)
    torch.manual_seed(0)
    asked = torch.nn.functional.normalize(torch.randn(5, index.d), dim=1)
    scores, pieces, places = gallery.nearest("windows", asked, 8)
    found, _ = index.search(asked.numpy(), 8)
    assert found == pytest.approx(scores.numpy(), abs=2e-3)
    assert index.ntotal == len(told) == gallery.windows
    assert pieces.shape == places.shape == (5, 8)


def test_windows_of_clips_that_are_gone_are_left_out(gallery: Gallery, tmp_path: Path) -> None:
    kept = list(gallery.gone)
    gone = np.zeros(len(gallery.pieces[0]), np.bool_)
    gone[0] = True
    gallery.gone[0] = gone
    try:
        export_gallery(gallery, "parquet", tmp_path)
    finally:
        gallery.gone[:] = kept
    left = int((gallery.pieces[0].spans[:, 0] != 0).sum())
    assert len(np.load(tmp_path / "img_emb/img_emb_0000.npy")) == left
    assert gallery.pieces[0].name(0).id not in {row["clip"] for row in rows(tmp_path)}
