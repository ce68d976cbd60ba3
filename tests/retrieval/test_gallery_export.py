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
from c4c.retrieval.gallery_faiss import FaissGallery, write_faiss
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


def clustered(count: int, dim: int, clusters: int, seed: int) -> np.ndarray:
    """Unit vectors around random middles, as those of windows of alike videos lie."""
    generator = np.random.default_rng(seed)
    middles = np.random.default_rng(0).standard_normal((clusters, dim))
    near = middles[generator.integers(clusters, size=count)]
    vectors = near + 0.5 * generator.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def test_ivf_pq_finds_what_exact_search_does_and_scores_it_exactly(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    first, other = clustered(9000, 32, 200, seed=1), clustered(6000, 32, 200, seed=2)
    kept = np.arange(1, 6000)  # the first one's clip is gone
    parts = [(first, np.arange(9000)), (other, kept)]
    write_faiss(parts, tmp_path / "image.index", packed=True)
    (tmp_path / "img_emb").mkdir()
    np.save(tmp_path / "img_emb/img_emb_0000.npy", first)
    np.save(tmp_path / "img_emb/img_emb_0001.npy", other[kept])
    queries = clustered(100, 32, 200, seed=3).astype(np.float32)
    vectors = np.concatenate((first, other[kept])).astype(np.float32)
    exact = queries @ vectors.T
    scores, rows = FaissGallery(tmp_path).nearest(queries, 10)
    assert scores == pytest.approx(np.take_along_axis(exact, rows, 1), abs=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    best = np.argsort(-exact, axis=1)[:, :10]
    met = [len(set(one) & set(two)) / 10 for one, two in zip(best, rows, strict=True)]
    assert np.mean(met) >= 0.95
    alone = FaissGallery(tmp_path, candidates=10).nearest(queries, 10)[1]  # as the codes say
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best, alone, strict=True)]) < 0.7
    few = FaissGallery(tmp_path, probes=1, candidates=10).nearest(queries, 9000)
    assert (few[1] == -1).any()
    assert np.isneginf(few[0][few[1] == -1]).all()


def test_ivf_pq_of_a_small_gallery_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(C4CError, match=r"trained on 10,000 windows .* --export faiss\."):
        export_gallery(gallery, "faiss-ivfpq", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lost", ["image.index", "img_emb/img_emb_0000.npy"])
def test_half_an_export_is_said(
    gallery: Gallery, tmp_path: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("c4c.retrieval.gallery_faiss.LEAST", 1)
    monkeypatch.setattr("c4c.retrieval.gallery_faiss._BITS", 4)
    export_gallery(gallery, "faiss-ivfpq", tmp_path)
    assert len(FaissGallery(tmp_path)) == gallery.windows == len(rows(tmp_path))
    (tmp_path / lost).unlink()
    with pytest.raises(C4CError, match="export"):
        FaissGallery(tmp_path)


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
