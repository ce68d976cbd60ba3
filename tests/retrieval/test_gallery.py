"""The gallery: what it holds, how it follows its cache, and what it does when things go wrong."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c4c.cache.open import Cache
from c4c.core.records import Clip, Dataset
from c4c.core.sampling import View
from c4c.heads import build_head
from c4c.heads.base import Head
from c4c.kernels import GalleryIndex, topk_similarity
from c4c.retrieval import gallery_refresh as gallery_module
from c4c.retrieval.gallery import Gallery
from c4c.retrieval.gallery_refresh import Maker, open_gallery, refresh
from c4c.retrieval.ranking import clip_vectors
from c4c.retrieval.windows import Windows

DIM = 64
Grow = Callable[..., Cache]


@pytest.fixture
def grow(tmp_path: Path, write_cache: Callable[..., Path]) -> Grow:
    """Gives a cache whose split has these clips (of 10 frames, by their numbers)."""

    def grown(numbers: Any, split: str = "all") -> Cache:
        ids = [f"clip{number:04}" for number in numbers]
        clips = tuple(Clip(name, f"/videos/{name}.mp4") for name in ids)
        frames = {
            name: np.random.default_rng(number).standard_normal((10, DIM)).astype(np.float16)
            for number, name in zip(numbers, ids, strict=True)
        }
        for manifest in (tmp_path / "cache/manifests").glob(f"{split}.*"):
            manifest.unlink()
        dataset = Dataset("folder", split, clips)
        return Cache.open(write_cache(tmp_path / "cache", dataset, frames, {}))

    return grown


def maker(cache: Cache, name: str = "seqTransf", **more: Any) -> Maker:
    torch.manual_seed(0)
    head = build_head(name, DIM, layers=1).eval()
    return Maker(cache, head, View(**more), Windows((4.0,), 2.0))


def queries(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.nn.functional.normalize(torch.randn(count, DIM, generator=generator), dim=1)


def opened(made_by: Maker) -> Gallery:
    return open_gallery(made_by, lambda: queries(5))


@torch.inference_mode()
def by_hand(head: Head, cache: Cache, kind: str, text: torch.Tensor) -> list[tuple[str, float]]:
    """The best row of each query, from the definition: every clip or window by itself."""
    clips, rows = cache.clips(), []
    for place, name in enumerate(clips.ids):
        frames = torch.from_numpy(clips.read(place)[0].astype(np.float32))
        spans = [(0, 10)] if kind == "clips" else [(0, 4), (2, 6), (4, 8), (6, 10)]
        for first, last in spans:
            from c4c.core.records import FeatureBatch

            batch = FeatureBatch(frames[None, first:last], torch.tensor([last - first]))
            rows.append((name, head.encode_clips(batch)[0]))
    scores = text @ torch.stack([vector for _, vector in rows]).T
    return [(rows[int(row.argmax())][0], float(row.max())) for row in scores]


@pytest.mark.parametrize("kind", ["clips", "windows"])
def test_its_rows_are_what_the_head_makes_of_clips_and_windows(grow: Grow, kind: str) -> None:
    cache = grow(range(12))
    made_by = maker(cache)
    gallery = opened(made_by)
    assert (len(gallery), gallery.windows) == (12, 48)
    scores, pieces, rows = gallery.nearest(kind, queries(), 3)
    for row, (name, score) in enumerate(by_hand(made_by.head, cache, kind, queries())):
        piece = gallery.pieces[int(pieces[row, 0])]
        place = int(rows[row, 0])
        clip = place if kind == "clips" else int(piece.spans[place, 0])
        assert piece.name(clip).id == name
        assert float(scores[row, 0]) == pytest.approx(score, abs=1e-6 if kind == "clips" else 1e-3)


def test_a_clips_vector_is_the_one_of_a_search_without_gallery(grow: Grow) -> None:
    cache = grow(range(5))
    made_by = maker(cache, "meanP", max_frames=3)
    (piece,) = opened(made_by).pieces
    expected = clip_vectors(made_by.head, cache.clips(), made_by.view)
    assert torch.equal(piece.clips, expected)


def test_pieces_are_searched_as_one(grow: Grow, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = grow(range(12))
    whole = opened(maker(cache)).nearest("windows", queries(), 20)[0]
    monkeypatch.setattr("c4c.retrieval.gallery_build.PIECE_CLIPS", 5)
    parted = refresh(cache.path / "gallery/parted", maker(cache), lambda: None)
    assert len(parted.pieces) == 3
    torch.testing.assert_close(parted.nearest("windows", queries(), 20)[0], whole)


def test_what_is_added_costs_what_is_added(grow: Grow, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(maker(grow(range(20))))
    (piece,) = first.folder.glob("piece-*")
    made: list[int] = []
    inner = gallery_module.make_piece

    def noted(head: Any, clips: Any, rows: Any, *rest: Any) -> bytes:
        made.append(len(rows))
        return inner(head, clips, rows, *rest)

    monkeypatch.setattr(gallery_module, "make_piece", noted)
    again = opened(maker(grow(range(23))))
    assert made == [3]
    assert len(again) == 23
    assert piece in again.folder.iterdir()
    assert opened(maker(grow(range(23)))).windows == again.windows
    assert made == [3]


def test_clips_that_are_gone_do_not_answer(grow: Grow) -> None:
    cache = grow(range(12))
    text = torch.stack([opened(maker(cache)).pieces[0].clips[4]])
    smaller = opened(maker(grow([0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11])))
    assert len(smaller) == 11
    for kind in ("clips", "windows"):
        _, pieces, rows = smaller.nearest(kind, text, 40)
        piece = smaller.pieces[0]
        for place in rows[0][pieces[0] >= 0].tolist():
            clip = place if kind == "clips" else int(piece.spans[place, 0])
            assert piece.name(clip).id != "clip0004"
    compacted = refresh(smaller.folder, maker(Cache.open(cache.path)), lambda: None, compact=True)
    assert compacted.windows == 44
    assert len(list(compacted.folder.glob("piece-*"))) == 1


def test_another_head_or_window_has_another_gallery(grow: Grow) -> None:
    cache = grow(range(3))
    plain = maker(cache)
    others = [
        maker(cache, "meanP"),
        maker(cache, max_frames=2),
        Maker(cache, plain.head, plain.view, Windows((2.0,), 2.0)),
    ]
    keys = {one.key() for one in (plain, *others)}
    assert len(keys) == 4
    assert maker(cache).key() == plain.key()


def test_best_scores_of_unrelated_sentences_are_kept(grow: Grow) -> None:
    opened(maker(grow(range(6))))
    gallery = opened(maker(grow(range(9))))
    assert len(gallery.pieces) == 2
    for kind in ("clips", "windows"):
        best = gallery.nearest(kind, queries(5), 1)[0][:, 0].numpy()
        assert gallery.unrelated(kind) == pytest.approx(best, abs=2e-6)


def test_a_damaged_piece_is_made_again(grow: Grow, capsys: pytest.CaptureFixture[str]) -> None:
    cache = grow(range(6))
    gallery = opened(maker(cache))
    before = gallery.nearest("clips", queries(), 3)[0]
    (piece,) = gallery.folder.glob("piece-*")
    data = piece.read_bytes()
    piece.write_bytes(data[:-100])
    again = opened(maker(cache))
    assert "made again" in capsys.readouterr().err
    torch.testing.assert_close(again.nearest("clips", queries(), 3)[0], before)
    assert list(again.damage()) == []
    changed = bytearray(piece.read_bytes())
    changed[-1] ^= 1
    piece.write_bytes(changed)
    assert list(opened(maker(cache)).damage()) == [f"{piece} differs from its checksum"]


@pytest.mark.parametrize("change", ["names", "key", "outside", "gone"])
def test_a_state_that_misleads_is_not_followed(grow: Grow, change: str) -> None:
    from c4c.core.schema import sealed

    cache = grow(range(6))
    state = opened(maker(cache)).folder / "gallery.json"
    content = json.loads(state.read_text())
    if change == "key":
        content["key"] = "0" * 64
    elif change == "gone":
        content["pieces"][0]["gone"] = [600]
    else:
        content["pieces"][0]["name"] = {"names": "other", "outside": "../piece-x"}[change]
    state.write_text(json.dumps(sealed(content)))
    assert len(opened(maker(cache))) == 6


def test_a_cache_that_cannot_be_written_has_its_gallery_elsewhere(
    grow: Grow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    cache = grow(range(3))
    monkeypatch.setattr(gallery_module.os, "access", lambda *_: False)
    gallery = opened(maker(cache))
    assert gallery.folder.is_relative_to(tmp_path / "home/c4c/gallery")
    assert "cannot be written: its gallery goes to" in capsys.readouterr().err
    assert not (cache.path / "gallery").exists()
    opened(maker(cache))
    assert capsys.readouterr().err == ""


_KILLED = """
import os, sys
from pathlib import Path
import torch
from c4c.cache.open import Cache
from c4c.heads import build_head
from c4c.retrieval import gallery_refresh as gallery
from c4c.core.sampling import View
from c4c.retrieval.windows import Windows
def killed(*args): os.kill(os.getpid(), 9)
setattr(gallery, sys.argv[2], killed)
torch.manual_seed(0)
head = build_head("seqTransf", 64, layers=1).eval()
maker = gallery.Maker(Cache.open(sys.argv[1]), head, View(), Windows((4.0,), 2.0))
gallery.open_gallery(maker, lambda: None)
"""


@pytest.mark.parametrize("where", ["write_once", "write_atomic"])
def test_a_killed_run_leaves_the_gallery_before_it(grow: Grow, where: str) -> None:
    cache = grow(range(6))
    made_by = maker(cache)
    folder = opened(made_by).folder
    before = (folder / "gallery.json").read_bytes()
    grow(range(8))
    done = subprocess.run([sys.executable, "-c", _KILLED, cache.path, where], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "gallery.json").read_bytes() == before
    standing = gallery_module._standing(folder, made_by.key())
    assert standing is not None
    assert len(standing) == 6
    assert len(opened(maker(Cache.open(cache.path)))) == 8
    held = {one.name for one in folder.glob("piece-*")}
    assert len(held) == 2  # nothing of the killed run is left


def test_a_stored_index_answers_as_a_fresh_one() -> None:
    rows = torch.randn(3000, DIM, generator=torch.Generator().manual_seed(2))
    fresh = GalleryIndex(rows)
    stored = {name: tensor.clone() for name, tensor in fresh.state().items()}
    restored = GalleryIndex.restored(rows, stored)
    for index in (restored, GalleryIndex.restored(rows, {})):
        scores, places = topk_similarity(queries(), index, 7)
        assert torch.equal(places, topk_similarity(queries(), fresh, 7)[1])
        torch.testing.assert_close(scores, topk_similarity(queries(), fresh, 7)[0])
    if stored:
        from c4c.core.errors import C4CError

        with pytest.raises(C4CError, match="stored index has no 'codes'"):
            GalleryIndex.restored(rows[:100], stored)
